// GPTQ: the layout of AutoGPTQ and GPTQModel, to and from the canonical Weight. For y = x . w^T with K inputs and N
// outputs: qweight i32 (K*bits/32, N), each column a bit stream along the inputs; qzeros i32 (groups, N*bits/32), each
// row a bit stream along the outputs; scales f16 (groups, N); g_idx i32 (K), the group of each input.
// w[n, k] = (q - zero) * scale of group g_idx[k]. It reads no files.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tensor/weight.h"

namespace bittern {

/// How qzeros holds a zero. The first version stores zero - 1, so that a zero of 0 wraps around to 2^bits - 1, which
/// programs read differently; the second was made to store the zero itself.
enum class GptqZeros : std::uint8_t { minus_one, plain };

/// The tensors of one linear: contiguous, `keep` owns their memory.
struct GptqTensors {
  Tensor qweight;  // i32 (in * bits / 32, out)
  Tensor qzeros;   // i32 (groups, out * bits / 32)
  Tensor scales;   // f16 (groups, out); when read also f32 or bf16
  Tensor g_idx;    // i32 (in, 1); when read rank 0 means groups are runs of inputs
  std::vector<std::shared_ptr<const void>> keep;
};

struct GptqLayout {
  int bits = 4;                 // 2, 3, 4 or 8
  std::int64_t group_size = 0;  // -1: all inputs form one group
  GptqZeros zeros = GptqZeros::minus_one;
  bool symmetric = false;  // every zero must be 2^(bits - 1)
};

/// Why the layout cannot hold a linear of this shape, or "": 32 codes fill whole words, in both directions, and readers
/// take groups to be whole.
std::string gptq_refusal(std::int64_t out, std::int64_t in, std::int64_t group_size);

/// Packs a weight of integer codes with zeros, of 2, 3, 4 or 8 bits, with or without input_order. Scales are rounded to
/// f16. Error(unsupported) naming the weight when the layout cannot hold its shape, a scale does not fit f16, or a zero
/// of 0 would have to be stored less one.
GptqTensors pack_gptq(const Weight& weight, GptqZeros zeros);

/// The canonical weight. Error(invalid_checkpoint) naming the tensor when types, shapes or groups disagree, or
/// `symmetric` and a zero is another.
Weight unpack_gptq(const std::string& name, const GptqTensors& tensors, const GptqLayout& layout);

}  // namespace bittern
