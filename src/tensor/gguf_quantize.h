// Rows of f32 as blocks of a GGUF type: Q4_0 and Q8_0 as ggml makes them, byte for byte; Q4_K by a search of our own.
// Reading blocks is gguf_blocks.h.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tensor/gguf_blocks.h"

namespace bittern {

/// The largest size of a value that every quantized type can hold: f16 scales end at 65504, and Q4_0 has 8 steps.
inline constexpr float kGgufLargest = 8.0F * 65504.0F;

/// True for f32, f16, bf16, q4_0, q8_0 and q4_k.
bool gguf_can_write(GgufType type);
/// `values` consecutive values, whole blocks of `type`, as bytes. Error(unsupported) for another type,
/// Error(invalid_argument) for a value in a quantized type that is not finite or larger than kGgufLargest.
std::vector<std::byte> gguf_encode(GgufType type, std::span<const float> values);

}  // namespace bittern
