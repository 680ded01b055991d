// simd_avx512.h: V as one 512-bit register. See simd.h for what the functions mean.
// A nibble becomes a float by one shift and one table permute, which ignores the bits above the low four.
#pragma once

// GCC 12 writes "any value" operands of its own intrinsics as uninitialized variables and then warns about them.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>

#include <cstdint>

namespace bittern::cpu {
namespace {

using V = __m512;
using I = __m512i;
using M = __mmask16;

// Registers allow this many accumulators beside operands: rows x tiles of the panel kernel, and tiles of the direct
// one.
constexpr int kPanelRows = 6, kPanelTiles = 4;
constexpr int kDirectTiles = 8, kDirectRows = 4;
constexpr int kAttendRows = 8;
constexpr int kDotRows = 4, kDotTiles = 4;  // of the W8A8 kernel

BITTERN_INLINE V zero() { return _mm512_setzero_ps(); }
BITTERN_INLINE V set1(float x) { return _mm512_set1_ps(x); }
BITTERN_INLINE V load(const float* p) { return _mm512_loadu_ps(p); }
BITTERN_INLINE void store(float* p, V v) { _mm512_storeu_ps(p, v); }
BITTERN_INLINE M first_lanes(int n) { return static_cast<M>(n >= 16 ? 0xffffu : n <= 0 ? 0u : (1u << n) - 1u); }
BITTERN_INLINE V load_part(const float* p, int n) { return _mm512_maskz_loadu_ps(first_lanes(n), p); }
BITTERN_INLINE void store_part(float* p, V v, int n) { _mm512_mask_storeu_ps(p, first_lanes(n), v); }

BITTERN_INLINE V add(V a, V b) { return _mm512_add_ps(a, b); }
BITTERN_INLINE V sub(V a, V b) { return _mm512_sub_ps(a, b); }
BITTERN_INLINE V mul(V a, V b) { return _mm512_mul_ps(a, b); }
BITTERN_INLINE V div(V a, V b) { return _mm512_div_ps(a, b); }
BITTERN_INLINE V max(V a, V b) { return _mm512_max_ps(a, b); }
BITTERN_INLINE V min(V a, V b) { return _mm512_min_ps(a, b); }
BITTERN_INLINE V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
BITTERN_INLINE V fnma(V a, V b, V c) { return _mm512_fnmadd_ps(a, b, c); }
BITTERN_INLINE V abs(V a) { return _mm512_abs_ps(a); }
BITTERN_INLINE V copy_sign(V a, V sign) {
  const I m = _mm512_set1_epi32(static_cast<int>(0x80000000u));
  return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(_mm512_castps_si512(a), _mm512_castps_si512(sign), m, 0xd8));
}
BITTERN_INLINE V round(V a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
BITTERN_INLINE V scale_by_power(V a, V n) { return _mm512_scalef_ps(a, n); }
BITTERN_INLINE M less(V a, V b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
BITTERN_INLINE V select(M m, V yes, V no) { return _mm512_mask_blend_ps(m, no, yes); }
/// Lanes begin <= i < end.
BITTERN_INLINE M lanes_between(int begin, int end) { return static_cast<M>(first_lanes(end) & ~first_lanes(begin)); }

// The halves meet first, so that every instruction set adds in the same order.
BITTERN_INLINE float sum_lanes(V v) {
  __m256 h = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  q = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(q, _mm_shuffle_ps(q, q, 1)));
}
BITTERN_INLINE float max_lanes(V v) {
  __m256 h = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  __m128 q = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  q = _mm_max_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_max_ss(q, _mm_shuffle_ps(q, q, 1)));
}

BITTERN_INLINE I load_bits(const void* p) { return _mm512_loadu_si512(p); }
BITTERN_INLINE V bf16_low(I w) { return _mm512_castsi512_ps(_mm512_slli_epi32(w, 16)); }
BITTERN_INLINE V bf16_high(I w) {
  return _mm512_castsi512_ps(_mm512_and_si512(w, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
}
BITTERN_INLINE V load_bf16(const std::uint16_t* p) {
  const I wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
BITTERN_INLINE V load_f16(const std::uint16_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
BITTERN_INLINE V load_u8(const std::uint8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}

/// Constants of nibble(): the signed table maps two's complement, the unsigned one 0..15.
using NibbleTable = V;
BITTERN_INLINE NibbleTable signed_nibbles() {
  return _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1);
}
BITTERN_INLINE NibbleTable unsigned_nibbles() {
  return _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}
/// Nibble i (0..7) of every dword as a float.
template <int i>
BITTERN_INLINE V signed_nibble(I w, NibbleTable t) {
  return _mm512_permutexvar_ps(i == 0 ? w : _mm512_srli_epi32(w, 4 * i), t);
}
template <int i>
BITTERN_INLINE V unsigned_nibble(I w, NibbleTable t) {
  return signed_nibble<i>(w, t);
}
/// Sixteen nibbles from eight bytes: lane l is nibble l/2 of dword l%2.
BITTERN_INLINE V load_nibbles(const std::uint8_t* p, NibbleTable t) {
  long long both;
  __builtin_memcpy(&both, p, 8);
  const I shifts = _mm512_setr_epi32(0, 0, 4, 4, 8, 8, 12, 12, 16, 16, 20, 20, 24, 24, 28, 28);
  return _mm512_permutexvar_ps(_mm512_srlv_epi32(_mm512_set1_epi64(both), shifts), t);
}
/// Byte j (0..3) of every dword, in two's complement, as a float.
template <int j>
BITTERN_INLINE V byte_signed(I w) {
  return _mm512_cvtepi32_ps(_mm512_srai_epi32(j == 3 ? w : _mm512_slli_epi32(w, 24 - 8 * j), 24));
}
BITTERN_INLINE I set_bits(std::int32_t x) { return _mm512_set1_epi32(x); }
BITTERN_INLINE I add_int(I a, I b) { return _mm512_add_epi32(a, b); }
BITTERN_INLINE I sub_int(I a, I b) { return _mm512_sub_epi32(a, b); }
BITTERN_INLINE I mul_int(I a, I b) { return _mm512_mullo_epi32(a, b); }
BITTERN_INLINE V to_float(I a) { return _mm512_cvtepi32_ps(a); }
BITTERN_INLINE I load_u8_int(const std::uint8_t* p) {
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
/// acc + the four products of the bytes of each dword, of (w + kDotBias) and x, all in two's complement.
#if defined(__AVX512VNNI__)
constexpr int kDotBias = 128;  // the instruction wants one side unsigned
BITTERN_INLINE I dot_bytes(I acc, I w, I x) {
  return _mm512_dpbusd_epi32(acc, _mm512_xor_si512(w, _mm512_set1_epi8(static_cast<char>(0x80))), x);
}
#else
constexpr int kDotBias = 0;
BITTERN_INLINE I even_bytes(I a) { return _mm512_srai_epi16(_mm512_slli_epi16(a, 8), 8); }
BITTERN_INLINE I odd_bytes(I a) { return _mm512_srai_epi16(a, 8); }
BITTERN_INLINE I dot_bytes(I acc, I w, I x) {
  const I even = _mm512_madd_epi16(even_bytes(w), even_bytes(x)), odd = _mm512_madd_epi16(odd_bytes(w), odd_bytes(x));
  return _mm512_add_epi32(acc, _mm512_add_epi32(even, odd));
}
#endif
/// Any sixteen numbers that nibbles stand for.
using LookupTable = V;
BITTERN_INLINE LookupTable load_lookup(const float* numbers) { return load(numbers); }
template <int i>
BITTERN_INLINE V lookup_nibble(I w, LookupTable t) {
  return signed_nibble<i>(w, t);
}
/// Sixteen e4m3 codes, divided by 256: moved into the fields of f16, whose exponent is biased by 8 more. No NaN codes.
BITTERN_INLINE V load_e4m3(const std::uint8_t* p) {
  const __m256i w = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  const __m256i size = _mm256_slli_epi16(_mm256_and_si256(w, _mm256_set1_epi16(0x7f)), 7);
  const __m256i sign = _mm256_slli_epi16(_mm256_and_si256(w, _mm256_set1_epi16(0x80)), 8);
  return _mm512_cvtph_ps(_mm256_or_si256(size, sign));
}
BITTERN_INLINE void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }

}  // namespace
}  // namespace bittern::cpu
