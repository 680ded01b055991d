// Algorithm: how the codes of a scheme are found. It gets one decoder layer at a time, so that methods which look at a
// whole block (or change its norms) and methods which look at one linear have the same seam: a function and a row in
// algorithm.cpp.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"
#include "quant/scheme.h"
#include "quant/select.h"

namespace bittern::quant {

/// One decoder layer in the hands of an algorithm, and the way its results get to disk.
class LayerWork {
 public:
  virtual ~LayerWork() = default;
  /// The linears to quantize, in the order of the model. Each must be stored once, in this order.
  virtual std::span<const LinearTask> linears() const = 0;
  virtual const Scheme& scheme() const = 0;
  virtual std::int64_t group_size() const = 0;
  virtual ThreadPool& pool() = 0;
  /// The linear as dense f32 (out, in), owned: the largest thing in memory, so drop it before loading the next.
  virtual Weight load(const LinearTask& linear) = 0;
  /// Measures `quantized` against `original` (what load() gave), packs and writes it.
  virtual void store(const LinearTask& linear, const Weight& original, const Weight& quantized) = 0;
};

struct Algorithm {
  std::string_view name;     // "rtn"
  std::string_view summary;  // one line for help texts and docs
  bool needs_calibration;    // run() needs statistics of activations, which `quantize` cannot be given yet
  void (*run)(LayerWork& layer);
  /// Bytes run() holds at once for one layer: how its memory grows is part of the plan that is shown beforehand.
  std::int64_t (*peak_bytes)(std::span<const LinearTask> layer, const Scheme& scheme, std::int64_t group_size);
};

std::span<const Algorithm> all_algorithms();
/// Error(invalid_argument) lists the names and suggests the nearest.
const Algorithm& find_algorithm(std::string_view name);
/// Error(unsupported) when the algorithm needs what quantize() has no way to provide.
void check_can_run(const Algorithm& algorithm);

}  // namespace bittern::quant
