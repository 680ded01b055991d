// Algorithm: how the codes of a scheme are found. It gets one decoder layer at a time, so that methods which look at a
// whole block (or change its norms) and methods which look at one linear have the same seam: a function and a row in
// algorithm.cpp.
#pragma once

#include <bittern/quantize.h>

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"
#include "quant/rtn.h"
#include "quant/scheme.h"
#include "quant/select.h"

namespace bittern::quant {

class CalibratedModel;

/// What an algorithm says of a linear beside the error of its weights (LinearReport).
struct StoreNotes {
  double loss_before = -1, loss_after = -1;
  std::string text;
};

/// One decoder layer in the hands of an algorithm, and the way its results get to disk.
class LayerWork {
 public:
  virtual ~LayerWork() = default;
  /// The linears to quantize, in the order of the model. Each must be stored once, in this order.
  virtual std::span<const LinearTask> linears() const = 0;
  virtual std::int64_t group_size() const = 0;
  /// Bits, groups and rounding of scales that the linear's scheme stores; linears of one layer may differ in bits.
  virtual GroupLayout layout(const LinearTask& linear) const = 0;
  virtual GptqOptions gptq() const { return {}; }
  virtual ThreadPool& pool() = 0;
  /// Index of the layer.
  virtual int layer() const = 0;
  /// The original checkpoint.
  virtual const Checkpoint& checkpoint() const = 0;
  /// The model with the calibration tokens at this layer's input; run() leaves them at the next layer's. Null for
  /// algorithms that need none.
  virtual CalibratedModel* calibrated() = 0;
  /// The linear as dense f32 (out, in), owned: the largest thing in memory, so drop it before loading the next.
  virtual Weight load(const LinearTask& linear) = 0;
  /// Measures `quantized` against `original` (what load() gave), packs and writes it.
  virtual void store(const LinearTask& linear, const Weight& original, const Weight& quantized,
                     const StoreNotes& notes = {}) = 0;
  /// Other values for a tensor of this layer that is not quantized (a norm, a bias): same type and shape.
  virtual void replace(const std::string& tensor, Weight value) = 0;
};

struct Algorithm {
  std::string_view name;        // "rtn"
  std::string_view summary;     // one line for help texts and docs
  bool needs_calibration;       // run() needs LayerWork::calibrated()
  bool needs_int8_activations;  // of the schemes
  bool reads_gptq_options;      // LayerWork::gptq()
  void (*run)(LayerWork& layer);
  /// Bytes run() holds at once for one layer: how its memory grows is part of the plan that is shown beforehand.
  std::int64_t (*peak_bytes)(std::span<const LinearTask> layer, std::int64_t group_size, std::int64_t search_tokens);
};

std::span<const Algorithm> all_algorithms();
/// Error(invalid_argument) lists the names and suggests the nearest.
const Algorithm& find_algorithm(std::string_view name);
/// Bits, groups and rounding of scales that `scheme` stores.
GroupLayout layout_of(const Scheme& scheme, std::int64_t group_size);
/// Error(invalid_argument) when the algorithm or a budget needs calibration and there is none, or neither needs what
/// there is.
void check_calibration(const Algorithm& algorithm, const QuantizeOptions& options);
/// Error(invalid_argument) when the algorithm is made for other schemes.
void check_scheme(const Algorithm& algorithm, const Scheme& scheme);

}  // namespace bittern::quant
