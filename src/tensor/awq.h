// AWQ GEMM: the layout in which AutoAWQ and its successors store 4-bit weights, to and from the canonical Weight.
// For y = x . w^T with K inputs and N outputs: qweight i32 (K, N/8), qzeros i32 (groups, N/8), scales f16 (groups, N);
// nibble i of a word holds column 8c + kAwqOrder[i], and w = (q - zero) * scale. It reads no files.
#pragma once

#include <array>
#include <string>

#include "tensor/weight.h"

namespace bittern {

/// Column (within a word of eight) that nibble i holds.
inline constexpr std::array<int, 8> kAwqOrder = {0, 2, 4, 6, 1, 3, 5, 7};

/// The three tensors of one linear: contiguous, `keep` owns their memory.
struct AwqTensors {
  Tensor qweight;  // i32 (in, out / 8)
  Tensor qzeros;   // i32 (groups, out / 8)
  Tensor scales;   // f16 (groups, out); when read also f32 or bf16
  std::vector<std::shared_ptr<const void>> keep;
};

/// Why the layout cannot hold a linear of this shape, or "" when it can: outputs must be a multiple of 8, and inputs a
/// multiple of the group size, since readers of the format take its groups to be whole.
std::string awq_refusal(std::int64_t out, std::int64_t in, std::int64_t group_size);

/// Packs a int4 weight; scales are rounded to f16. Error(unsupported) naming the weight when the layout cannot
/// hold its shape, or a scale is too large or too small for f16.
AwqTensors pack_awq(const Weight& weight);

/// The canonical weight. `group_size` is the checkpoint's, with -1 already replaced by the number of inputs.
/// Error(invalid_checkpoint) naming the linear when types or shapes disagree.
Weight unpack_awq(const std::string& name, const AwqTensors& tensors, std::int64_t group_size);

}  // namespace bittern
