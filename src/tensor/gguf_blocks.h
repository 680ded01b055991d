// The tensor types of GGUF: their names and sizes, and their blocks decoded to the canonical Weight. Decoded values
// equal those of the reference (the `gguf` package) bit for bit. Writing blocks is gguf_quantize.h.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "tensor/weight.h"

namespace bittern {

/// Tensor types by ggml's numbers; those that Bittern decodes.
enum class GgufType : std::uint32_t {
  f32 = 0,
  f16 = 1,
  q4_0 = 2,
  q4_1 = 3,
  q5_0 = 6,
  q5_1 = 7,
  q8_0 = 8,
  q4_k = 12,
  q5_k = 13,
  q6_k = 14,
  iq4_nl = 20,
  bf16 = 30,
  mxfp4 = 39,
};

/// Facts of one type. Types that Bittern knows by name but does not decode have block_bytes == 0.
struct GgufTypeInfo {
  std::uint32_t type;
  std::string_view name;  // "Q4_K"
  std::int64_t block_values;
  std::int64_t block_bytes;
};

/// The row of a number, or nullptr for one nobody has given a name yet.
const GgufTypeInfo* gguf_type_info(std::uint32_t type);
/// "Q4_K", or "type 77" for an unknown number.
std::string gguf_type_name(std::uint32_t type);
/// Bytes of `values` consecutive values, which must be whole blocks of a type that Bittern decodes.
std::int64_t gguf_bytes(GgufType type, std::int64_t values);
/// The canonical format a type decodes to.
Format gguf_format(GgufType type);

/// Decodes rows of blocks. `bytes` has gguf_bytes(type, rows * cols) bytes and cols is whole blocks (checked when the
/// file was read). Dense types share the memory of `bytes` when it is aligned; the caller keeps that alive.
/// Error(invalid_checkpoint) for an MXFP4 scale that is NaN.
Weight decode_gguf_blocks(std::string name, GgufType type, std::int64_t rows, std::int64_t cols,
                          std::span<const std::byte> bytes);

}  // namespace bittern
