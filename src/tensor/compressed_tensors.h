// compressed-tensors: the layouts in which vLLM's quantization tools store linears, to and from the canonical Weight.
// Output-major: weight_packed is a bit stream along the inputs of each output, with 2^(bits-1) added to each signed
// code; weight_zero_point a stream along the outputs of each group. Packages before dense packing filled words with
// floor(32 / bits) codes each: both are read, told apart by their widths. It reads no files.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tensor/fp8.h"
#include "tensor/weight.h"

namespace bittern {

enum class CompressedKind : std::uint8_t {
  packed,  // weight_packed i32 and weight_shape
  int8,    // weight i8 (out, in): signed codes of 2 to 8 bits
  e4m3,    // weight f8_e4m3 (out, in)
  mxfp4,   // weight_packed u8 (out, in / 2) of e2m1, weight_scale u8 exponents per 32 inputs
};

/// How the linears of one config group are stored.
struct CompressedLayout {
  CompressedKind kind = CompressedKind::packed;
  int bits = 4;
  ScaleTiles tiles;  // which weights share a scale
  bool symmetric = true;
  bool int8_activations = false;

  bool operator==(const CompressedLayout& other) const = default;
};

/// The tensors of one linear; those a layout has not have rank 0. `keep` owns their memory.
struct CompressedTensors {
  Tensor weight;      // weight_packed or weight
  Tensor shape;       // weight_shape: i64 or i32 (2, 1), out and in
  Tensor scale;       // weight_scale
  Tensor zero_point;  // weight_zero_point: i32 packed along the outputs, or i8 of the shape of the scales
  Tensor g_idx;       // weight_g_idx: i32 (in, 1), the group of each input
  std::vector<std::shared_ptr<const void>> keep;
};

/// The canonical weight. Error(invalid_checkpoint) naming the tensor when types, shapes or values disagree,
/// Error(unsupported) when a width fits both ways of packing.
Weight unpack_compressed(const std::string& name, const CompressedTensors& tensors, const CompressedLayout& layout);

/// Why pack_compressed() cannot hold a linear of this shape, or "": groups must be whole.
std::string compressed_refusal(std::int64_t in, std::int64_t group_size);

/// weight_packed, weight_scale, weight_shape and, unless `symmetric`, weight_zero_point, densely packed, of a weight of
/// integer codes with zeros. Error(unsupported) naming the weight when it has an input_order (the package dropped its
/// weight_g_idx), the layout cannot hold its shape or a scale does not fit `scale_dtype`.
CompressedTensors pack_compressed(const Weight& weight, bool symmetric, DType scale_dtype);
/// weight i8 and weight_scale (out, 1) of an 8-bit weight with symmetric zeros and one group. Errors as above.
CompressedTensors pack_int_quantized(const Weight& weight, DType scale_dtype);

}  // namespace bittern
