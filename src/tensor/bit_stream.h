// Fields of a few bits packed into 32-bit words, least significant bit first, without gaps: field i lies at bit
// i * bits and may straddle two words. GPTQ and compressed-tensors both store codes so; they differ in the direction.
#pragma once

#include <cstdint>

namespace bittern {

/// Words that `count` fields take.
constexpr std::int64_t stream_words(std::int64_t count, int bits) { return (count * bits + 31) / 32; }

/// Field i of a stream whose words lie `stride` words apart.
inline std::uint32_t read_field(const std::uint32_t* words, std::int64_t stride, std::int64_t i, int bits) {
  const std::int64_t bit = i * bits;
  const std::int64_t word = (bit >> 5) * stride;
  const int shift = static_cast<int>(bit & 31);
  std::uint64_t value = words[word];
  if (shift + bits > 32) value |= std::uint64_t{words[word + stride]} << 32;
  return static_cast<std::uint32_t>(value >> shift) & ((1U << bits) - 1U);
}

/// Sets field i, which must be zero, to `value` < 2^bits.
inline void write_field(std::uint32_t* words, std::int64_t stride, std::int64_t i, int bits, std::uint32_t value) {
  const std::int64_t bit = i * bits;
  const std::int64_t word = (bit >> 5) * stride;
  const int shift = static_cast<int>(bit & 31);
  const std::uint64_t placed = std::uint64_t{value} << shift;
  words[word] |= static_cast<std::uint32_t>(placed);
  if (shift + bits > 32) words[word + stride] |= static_cast<std::uint32_t>(placed >> 32);
}

}  // namespace bittern
