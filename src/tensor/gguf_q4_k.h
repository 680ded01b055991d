// Encoding of Q4_K, the GGUF block of 256 values in eight groups of 32 with 6-bit scales and minima. The search is
// ours: ggml's own result is not unique, since it differs between processors. Reading is gguf_blocks.h.
#pragma once

#include <cstdint>

namespace bittern {

/// Encodes 256 finite values of size up to kGgufLargest into the 144 bytes at `block`.
void encode_q4_k(const float* values, std::uint8_t* block);

}  // namespace bittern
