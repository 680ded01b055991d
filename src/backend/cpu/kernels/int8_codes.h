// int8_codes.h: what the kernels of linear_int8dot.cpp and linear_int8panel.cpp share: 4- and 8-bit codes as unsigned
// bytes beside activations of signed ones, the term of the zero points as one 16-bit dot product, and the scaling of a
// group's sum. Sums are exact integers and the scaling is the same operation everywhere, so a row's bits depend neither
// on the kernel nor on the other rows.
#pragma once

#include "backend/cpu/kernels/linear_tiles.h"

namespace bittern::cpu {
namespace {

/// A step of nibbles: its even inputs, then its odd ones, as bytes 0..15; they are stored as q - 8 in two's complement.
struct NibbleCodes {
  static constexpr int kInputs = 8, kVectors = 2;
  template <int v>
  BITTERN_INLINE I bytes(I raw) {
    constexpr int kXorThenAnd = 0x28;  // (a ^ b) & c
    return _mm512_ternarylogic_epi32(v == 0 ? raw : _mm512_srli_epi32(raw, 4), _mm512_set1_epi8(8),
                                     _mm512_set1_epi8(15), kXorThenAnd);
  }
};

/// A step of bytes, stored less half their range.
struct ByteCodes {
  static constexpr int kInputs = 4, kVectors = 1;
};
BITTERN_INLINE I unsigned_bytes(I raw, I center) { return _mm512_add_epi8(raw, center); }

template <class Codes, int v>
BITTERN_INLINE I code_bytes(I raw, I center) {
  if constexpr (Codes::kVectors == 2) {
    return NibbleCodes::bytes<v>(raw);
  } else {
    return unsigned_bytes(raw, center);
  }
}

/// What code_bytes adds to bytes to undo their centering.
BITTERN_INLINE I center_bytes(const LinearArgs& a) {
  return _mm512_set1_epi8(static_cast<char>(static_cast<int>(a.center)));
}

BITTERN_INLINE I broadcast_four(const std::int8_t* p) {
  int four;
  __builtin_memcpy(&four, p, 4);
  return _mm512_set1_epi32(four);
}

/// sum += the four products of the bytes of each dword. Written out because GCC 12 copies sums of the intrinsic between
/// registers and the stack in every turn of a loop, which halved the speed.
BITTERN_INLINE void dot_four(I& sum, I codes, I x) { asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(codes), "v"(x)); }

/// The zeros of sixteen outputs in pairs (zero, 128 zero): with split_sum's pair one instruction gives -zero * sum of
/// x.
BITTERN_INLINE I zero_pairs(const LinearArgs& a, const std::uint8_t* header) {
  const I zeros = load_u8_int(header_zeros(a, header));
  return _mm512_or_si512(zeros, _mm512_slli_epi32(zeros, 16 + 7));
}
BITTERN_INLINE std::int32_t split_sum(std::int32_t sum) {
  const std::int32_t less = -sum;
  return (less & 127) | (less >> 7) * 65536;
}
BITTERN_INLINE I open_sum(I pairs, std::int32_t split) {
  return _mm512_dpwssd_epi32(_mm512_setzero_si512(), pairs, _mm512_set1_epi32(split));
}
BITTERN_INLINE V close_sum(V total, V scale, float x_scale, I sum) {
  return fma(mul(scale, set1(x_scale)), to_float(sum), total);
}

}  // namespace
}  // namespace bittern::cpu
