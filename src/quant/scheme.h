// Scheme: how quantized numbers are stored, from the canonical Format down to the tensors on disk. A scheme is a row of
// data and plain functions in scheme.cpp; the stream that writes checkpoints knows no scheme by name.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "quant/select.h"
#include "tensor/safetensors.h"
#include "tensor/weight.h"

namespace bittern::quant {

/// Takes the tensors of one linear, in the order of `tensors`.
using TensorSink = std::function<void(std::string_view name, std::span<const std::byte> data)>;

struct Scheme {
  std::string_view name;                      // "w4a16"
  std::string_view numbers;                   // what is stored, whatever the layout: "w4a16", "w4a16-sym", "w8a8"
  std::string_view disk_format;               // the layout: "awq", "gptq" or "compressed-tensors"
  std::string_view summary;                   // one line for help texts and docs
  int bits;                                   // of a code
  bool symmetric;                             // every zero is 2^(bits - 1)
  bool int8_activations;                      // made for activations rounded to 8 bits (Format::int8_activations)
  std::span<const std::int64_t> group_sizes;  // accepted, -1 meaning one group per row
  DType scale_dtype;  // what the disk holds: algorithms round scales to it before they choose codes
  /// Why `linear` cannot be stored with this group size, or "".
  std::string (*obstacle)(const LinearTask& linear, std::int64_t group_size);
  /// Declares the tensors that replace "<name>.weight".
  std::vector<TensorSpec> (*tensors)(const LinearTask& linear, std::int64_t group_size);
  /// Packs a canonical weight into those tensors.
  void (*pack)(const Weight& weight, const TensorSink& sink);
  /// Most bytes pack() holds at once for this linear, beside the weight.
  std::int64_t (*pack_bytes)(const LinearTask& linear, std::int64_t group_size);
  /// "quantization_config" of config.json; `kept` are the modules that are not quantized.
  Json (*config)(std::int64_t group_size, const std::vector<std::string>& kept);
  /// The scheme as one config group without targets, in formats whose linears may differ; null in others.
  Json (*group)(std::int64_t group_size);
};

/// All rows, in the order they are listed to users.
std::span<const Scheme> all_schemes();
/// Error(invalid_argument) lists the names and suggests the nearest.
const Scheme& find_scheme(std::string_view name);
/// The scheme with the numbers of `scheme` in another disk format. Error(invalid_argument) lists the formats there are.
const Scheme& find_scheme_in_format(std::string_view scheme, std::string_view disk_format);
/// "quantization_config" of linears whose schemes differ: one config group for each scheme. All must have group().
Json mixed_config(std::span<const LinearTask> linears, std::int64_t group_size, const std::vector<std::string>& kept);
/// Error(invalid_argument) lists the group sizes of the scheme.
void check_group_size(const Scheme& scheme, std::int64_t group_size);
/// Inputs per group of a linear: `group_size`, or the whole width for -1.
inline std::int64_t group_inputs(const LinearTask& linear, std::int64_t group_size) {
  return group_size == -1 ? linear.in : group_size;
}

}  // namespace bittern::quant
