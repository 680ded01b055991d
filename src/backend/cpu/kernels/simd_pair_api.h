// simd_pair_api.h: the free functions of simd.h for an instruction set whose V is a Pair.
// Included last by simd_avx2.h and simd_generic.h, once V, I and M are known there.
#pragma once

#include <cstdint>

namespace bittern::cpu {
namespace {

BITTERN_INLINE V set1(float x) { return Make<V>::set1(x); }
BITTERN_INLINE V zero() { return set1(0.0f); }
BITTERN_INLINE V load(const float* p) { return Make<V>::load(p); }
BITTERN_INLINE V load_part(const float* p, int n) {
  float full[16] = {};
  for (int i = 0; i < n; ++i) full[i] = p[i];
  return load(full);
}
BITTERN_INLINE void store_part(float* p, V v, int n) {
  float full[16];
  store(full, v);
  for (int i = 0; i < n; ++i) p[i] = full[i];
}
BITTERN_INLINE M lanes_between(int begin, int end) {
  const float lane[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const V l = load(lane);
  // begin - 0.5 < l and l < end - 0.5, as one product-free mask: blend end's mask where the lane is past begin.
  const V inside = select(less(set1(static_cast<float>(begin) - 0.5f), l), set1(1.0f), zero());
  return less(zero(), select(less(l, set1(static_cast<float>(end) - 0.5f)), inside, zero()));
}

BITTERN_INLINE I load_bits(const void* p) { return MakeBits<I>::load(p); }
BITTERN_INLINE I set_bits(std::int32_t x) { return MakeBits<I>::set1(x); }
BITTERN_INLINE I load_u8_int(const std::uint8_t* p) { return MakeBits<I>::load_u8(p); }
constexpr int kDotBias = 0;  // of dot_bytes, see simd_avx512.h
BITTERN_INLINE V load_bf16(const std::uint16_t* p) { return Make<V>::load_bf16(p); }
BITTERN_INLINE V load_f16(const std::uint16_t* p) { return Make<V>::load_f16(p); }
BITTERN_INLINE V load_e4m3(const std::uint8_t* p) { return Make<V>::load_e4m3(p); }
BITTERN_INLINE V load_u8(const std::uint8_t* p) { return Make<V>::load_u8(p); }

// These sets convert by shifts, without a table.
struct NibbleTable {};
BITTERN_INLINE NibbleTable signed_nibbles() { return {}; }
BITTERN_INLINE NibbleTable unsigned_nibbles() { return {}; }
template <int i>
BITTERN_INLINE V signed_nibble(I w, NibbleTable) {
  return nibble_signed<i>(w);
}
template <int i>
BITTERN_INLINE V unsigned_nibble(I w, NibbleTable) {
  return nibble_unsigned<i>(w);
}
BITTERN_INLINE void prefetch(const void* p) { __builtin_prefetch(p, 0, 3); }

}  // namespace
}  // namespace bittern::cpu
