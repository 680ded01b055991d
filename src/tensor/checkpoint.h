// Checkpoint: the weights on disk, read through one interface whatever their format, with strict accounting of keys.
// A reader maps files and converts to the canonical Weight on request; it never loads what is not asked for.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "tensor/model_files.h"
#include "tensor/saved_packing.h"
#include "tensor/weight.h"

namespace bittern {

/// One tensor as it lies on disk.
struct TensorEntry {
  std::string name;
  std::string dtype_name;      // as the file spells it: "BF16", "F8_E4M3", ...
  std::optional<DType> dtype;  // nullopt: an element type Bittern does not have; asking for such a tensor is an error
  std::vector<std::int64_t> shape;
  std::string file;
  std::uint64_t bytes = 0;
};

class Checkpoint {
 public:
  virtual ~Checkpoint() = default;
  /// All tensors on disk, sorted by name.
  virtual const std::vector<TensorEntry>& entries() const = 0;
  virtual bool contains(std::string_view tensor) const = 0;
  /// The raw tensor mapped from disk, as a dense Weight: vectors and scalars get in == 1, and dimensions after the
  /// first are folded into `in`. Error(not_found) names the key, Error(unsupported) an element type not in DType.
  virtual Weight dense(std::string_view tensor) const = 0;
  /// The weight of linear `module` ("model.layers.0.mlp.up_proj"): "<module>.weight", or whatever the checkpoint's
  /// quantization stores in its place ("<module>.qweight", ...). `used` receives every key it consumed.
  virtual Weight linear(std::string_view module, std::vector<std::string>& used) const = 0;
  /// The table of embedding `module`: "<module>.weight" as it lies, unless the format quantizes tables too (GGUF).
  virtual Weight table(std::string_view module, std::vector<std::string>& used) const;
  /// The weight of `module` in the packing a backend saved (a workspace), its rows in the order in which the model
  /// takes them; nullopt when the checkpoint does not hold it so. `used` receives the keys that `linear` would consume.
  virtual std::optional<SavedPacking> packing(std::string_view module, std::vector<std::string>& used) const;
  /// True when the checkpoint holds `module` in any form `linear` can read.
  virtual bool has_linear(std::string_view module) const = 0;
};

/// Opens model.safetensors or the shards of model.safetensors.index.json. `quantization_config` is that object of
/// config.json, or null; a quant_method Bittern cannot read is Error(unsupported) naming it and those it can.
/// Truncated, overlapping, oversized or lying headers are Error(invalid_checkpoint) naming file, tensor and reason.
std::unique_ptr<Checkpoint> open_checkpoint(const std::shared_ptr<const ModelFiles>& files,
                                            const Json& quantization_config);

}  // namespace bittern
