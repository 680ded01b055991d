// simd_avx2.h: V as a pair of 256-bit registers (AVX2, FMA, F16C). See simd.h for what the functions mean.
// Sixteen-entry table permutes do not exist here, so a nibble becomes a float by two shifts and a conversion.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "backend/cpu/kernels/simd_make.h"

// The attribute lost on __m256 as a template argument is may_alias, which nothing here relies on.
#pragma GCC diagnostic ignored "-Wignored-attributes"

namespace bittern::cpu {
namespace {

constexpr int kPanelRows = 6, kPanelTiles = 1;  // 12 of 16 registers accumulate
constexpr int kDirectTiles = 4, kDirectRows = 2;
constexpr int kAttendRows = 4;
constexpr int kDotRows = 2, kDotTiles = 2;

template <>
struct LanesOf<__m256> {
  static constexpr int value = 8;
};
template <>
struct FloatOf<__m256i> {
  using type = __m256;
};
template <>
struct Make<__m256> {
  BITTERN_INLINE __m256 set1(float x) { return _mm256_set1_ps(x); }
  BITTERN_INLINE __m256 load(const float* p) { return _mm256_loadu_ps(p); }
  BITTERN_INLINE __m128i load128(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
  BITTERN_INLINE __m256 load_bf16(const std::uint16_t* p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load128(p)), 16));
  }
  BITTERN_INLINE __m256 load_f16(const std::uint16_t* p) { return _mm256_cvtph_ps(load128(p)); }
  BITTERN_INLINE __m256 load_e4m3(const std::uint8_t* p) {
    const __m128i w = _mm_cvtepu8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
    const __m128i size = _mm_slli_epi16(_mm_and_si128(w, _mm_set1_epi16(0x7f)), 7);
    const __m128i sign = _mm_slli_epi16(_mm_and_si128(w, _mm_set1_epi16(0x80)), 8);
    return _mm256_cvtph_ps(_mm_or_si128(size, sign));
  }
  BITTERN_INLINE __m256 load_u8(const std::uint8_t* p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
  }
};
template <>
struct MakeBits<__m256i> {
  BITTERN_INLINE __m256i load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
  BITTERN_INLINE __m256i set1(std::int32_t x) { return _mm256_set1_epi32(x); }
  BITTERN_INLINE __m256i load_u8(const std::uint8_t* p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  }
};

BITTERN_INLINE void store(float* p, __m256 v) { _mm256_storeu_ps(p, v); }
BITTERN_INLINE __m256 add(__m256 a, __m256 b) { return _mm256_add_ps(a, b); }
BITTERN_INLINE __m256 sub(__m256 a, __m256 b) { return _mm256_sub_ps(a, b); }
BITTERN_INLINE __m256 mul(__m256 a, __m256 b) { return _mm256_mul_ps(a, b); }
BITTERN_INLINE __m256 div(__m256 a, __m256 b) { return _mm256_div_ps(a, b); }
BITTERN_INLINE __m256 max(__m256 a, __m256 b) { return _mm256_max_ps(a, b); }
BITTERN_INLINE __m256 min(__m256 a, __m256 b) { return _mm256_min_ps(a, b); }
BITTERN_INLINE __m256 fma(__m256 a, __m256 b, __m256 c) { return _mm256_fmadd_ps(a, b, c); }
BITTERN_INLINE __m256 fnma(__m256 a, __m256 b, __m256 c) { return _mm256_fnmadd_ps(a, b, c); }
BITTERN_INLINE __m256 abs(__m256 a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
BITTERN_INLINE __m256 copy_sign(__m256 a, __m256 sign) {
  return _mm256_or_ps(abs(a), _mm256_and_ps(_mm256_set1_ps(-0.0f), sign));
}
BITTERN_INLINE __m256 round(__m256 a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
BITTERN_INLINE __m256 scale_by_power(__m256 a, __m256 n) {
  const __m256i e = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
  return _mm256_mul_ps(a, _mm256_castsi256_ps(e));
}
BITTERN_INLINE __m256 less(__m256 a, __m256 b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
BITTERN_INLINE __m256 select(__m256 m, __m256 yes, __m256 no) { return _mm256_blendv_ps(no, yes, m); }

BITTERN_INLINE float sum_lanes(__m256 v) {
  __m128 q = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  q = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(q, _mm_shuffle_ps(q, q, 1)));
}
BITTERN_INLINE float max_lanes(__m256 v) {
  __m128 q = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  q = _mm_max_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_max_ss(q, _mm_shuffle_ps(q, q, 1)));
}
BITTERN_INLINE __m256 bf16_low(__m256i w) { return _mm256_castsi256_ps(_mm256_slli_epi32(w, 16)); }
BITTERN_INLINE __m256 bf16_high(__m256i w) {
  return _mm256_castsi256_ps(_mm256_and_si256(w, _mm256_set1_epi32(static_cast<int>(0xffff0000u))));
}
template <int i>
BITTERN_INLINE __m256 nibble_signed(__m256i w) {
  return _mm256_cvtepi32_ps(_mm256_srai_epi32(i == 7 ? w : _mm256_slli_epi32(w, 28 - 4 * i), 28));
}
template <int j>
BITTERN_INLINE __m256 byte_signed(__m256i w) {
  return _mm256_cvtepi32_ps(_mm256_srai_epi32(j == 3 ? w : _mm256_slli_epi32(w, 24 - 8 * j), 24));
}
BITTERN_INLINE __m256i add_int(__m256i a, __m256i b) { return _mm256_add_epi32(a, b); }
BITTERN_INLINE __m256i sub_int(__m256i a, __m256i b) { return _mm256_sub_epi32(a, b); }
BITTERN_INLINE __m256i mul_int(__m256i a, __m256i b) { return _mm256_mullo_epi32(a, b); }
BITTERN_INLINE __m256 to_float(__m256i a) { return _mm256_cvtepi32_ps(a); }
BITTERN_INLINE __m256i even_bytes(__m256i a) { return _mm256_srai_epi16(_mm256_slli_epi16(a, 8), 8); }
BITTERN_INLINE __m256i odd_bytes(__m256i a) { return _mm256_srai_epi16(a, 8); }
BITTERN_INLINE __m256i dot_bytes(__m256i acc, __m256i w, __m256i x) {
  const __m256i even = _mm256_madd_epi16(even_bytes(w), even_bytes(x));
  const __m256i odd = _mm256_madd_epi16(odd_bytes(w), odd_bytes(x));
  return _mm256_add_epi32(acc, _mm256_add_epi32(even, odd));
}
struct LookupTable {
  __m256 low, high;
};
BITTERN_INLINE LookupTable load_lookup(const float* numbers) {
  return {_mm256_loadu_ps(numbers), _mm256_loadu_ps(numbers + 8)};
}
/// The permutes take the low three bits; the fourth chooses between them.
template <int i>
BITTERN_INLINE __m256 lookup_nibble(__m256i w, const LookupTable& t) {
  const __m256i at = i == 0 ? w : _mm256_srli_epi32(w, 4 * i);
  return _mm256_blendv_ps(_mm256_permutevar8x32_ps(t.low, at), _mm256_permutevar8x32_ps(t.high, at),
                          _mm256_castsi256_ps(_mm256_slli_epi32(at, 28)));
}
template <int i>
BITTERN_INLINE __m256 nibble_unsigned(__m256i w) {
  return _mm256_cvtepi32_ps(_mm256_and_si256(i == 0 ? w : _mm256_srli_epi32(w, 4 * i), _mm256_set1_epi32(15)));
}

}  // namespace
}  // namespace bittern::cpu

#include "backend/cpu/kernels/simd_pair.h"

namespace bittern::cpu {
namespace {

using V = Pair<__m256>;
using I = Pair<__m256i>;
using M = Pair<__m256>;

}  // namespace
}  // namespace bittern::cpu

#include "backend/cpu/kernels/simd_pair_api.h"

namespace bittern::cpu {
namespace {

/// Sixteen nibbles from eight bytes: lane l is nibble l/2 of dword l%2.
BITTERN_INLINE V load_nibbles(const std::uint8_t* p, NibbleTable) {
  long long both;
  __builtin_memcpy(&both, p, 8);
  const __m256i w = _mm256_set1_epi64x(both), low4 = _mm256_set1_epi32(15);
  const __m256i a = _mm256_srlv_epi32(w, _mm256_setr_epi32(0, 0, 4, 4, 8, 8, 12, 12));
  const __m256i b = _mm256_srlv_epi32(w, _mm256_setr_epi32(16, 16, 20, 20, 24, 24, 28, 28));
  return {_mm256_cvtepi32_ps(_mm256_and_si256(a, low4)), _mm256_cvtepi32_ps(_mm256_and_si256(b, low4))};
}

}  // namespace
}  // namespace bittern::cpu
