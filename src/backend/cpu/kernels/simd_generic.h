// simd_generic.h: V as a pair of pairs of four floats, in the compiler's portable vectors (SSE2 on x86-64, NEON on
// ARM). It has no fused multiply-add, so its last bits differ from the other sets; within it, results are as
// reproducible.
#pragma once

#include <cstdint>

#include "backend/cpu/kernels/simd_make.h"

namespace bittern::cpu {
namespace {

typedef float F4 __attribute__((vector_size(16)));
typedef std::int32_t I4 __attribute__((vector_size(16)));

constexpr int kPanelRows = 2, kPanelTiles = 1;
constexpr int kDirectTiles = 2, kDirectRows = 1;
constexpr int kAttendRows = 2;
constexpr int kDotRows = 1, kDotTiles = 1;

template <>
struct LanesOf<F4> {
  static constexpr int value = 4;
};
template <>
struct FloatOf<I4> {
  using type = F4;
};

/// f16 to f32, exactly, subnormals and infinities included: the exponent is rebased by one multiplication.
BITTERN_INLINE float half_to_float(std::uint16_t h) {
  const std::uint32_t magnitude = static_cast<std::uint32_t>(h & 0x7fffu) << 13;
  std::uint32_t bits = magnitude;
  float f;
  if ((h & 0x7c00u) == 0x7c00u) {
    bits |= 0x7f800000u;
    __builtin_memcpy(&f, &bits, 4);
  } else {
    __builtin_memcpy(&f, &bits, 4);
    f *= 5.192296858534828e33f;  // 2^112
  }
  return (h & 0x8000u) ? -f : f;
}
BITTERN_INLINE float bits_to_float(std::uint32_t bits) {
  float f;
  __builtin_memcpy(&f, &bits, 4);
  return f;
}

template <>
struct Make<F4> {
  BITTERN_INLINE F4 set1(float x) { return F4{x, x, x, x}; }
  BITTERN_INLINE F4 load(const float* p) {
    F4 v;
    __builtin_memcpy(&v, p, 16);
    return v;
  }
  BITTERN_INLINE F4 load_bf16(const std::uint16_t* p) {
    const I4 w = {p[0], p[1], p[2], p[3]};
    return reinterpret_cast<F4>(w << 16);
  }
  BITTERN_INLINE F4 load_f16(const std::uint16_t* p) {
    return F4{half_to_float(p[0]), half_to_float(p[1]), half_to_float(p[2]), half_to_float(p[3])};
  }
  BITTERN_INLINE F4 load_e4m3(const std::uint8_t* p) {
    F4 v;
    for (int l = 0; l < 4; ++l) {
      const unsigned w = p[l];
      v[l] = half_to_float(static_cast<std::uint16_t>((w & 0x7fu) << 7 | (w & 0x80u) << 8));
    }
    return v;
  }
  BITTERN_INLINE F4 load_u8(const std::uint8_t* p) {
    const I4 w = {p[0], p[1], p[2], p[3]};
    return __builtin_convertvector(w, F4);
  }
};
template <>
struct MakeBits<I4> {
  BITTERN_INLINE I4 load(const void* p) {
    I4 v;
    __builtin_memcpy(&v, p, 16);
    return v;
  }
  BITTERN_INLINE I4 set1(std::int32_t x) { return I4{x, x, x, x}; }
  BITTERN_INLINE I4 load_u8(const std::uint8_t* p) { return I4{p[0], p[1], p[2], p[3]}; }
};

BITTERN_INLINE void store(float* p, F4 v) { __builtin_memcpy(p, &v, 16); }
BITTERN_INLINE F4 add(F4 a, F4 b) { return a + b; }
BITTERN_INLINE F4 sub(F4 a, F4 b) { return a - b; }
BITTERN_INLINE F4 mul(F4 a, F4 b) { return a * b; }
BITTERN_INLINE F4 div(F4 a, F4 b) { return a / b; }
BITTERN_INLINE F4 fma(F4 a, F4 b, F4 c) { return a * b + c; }
BITTERN_INLINE F4 fnma(F4 a, F4 b, F4 c) { return c - a * b; }
BITTERN_INLINE I4 less(F4 a, F4 b) { return a < b; }
BITTERN_INLINE F4 select(I4 m, F4 yes, F4 no) {
  return reinterpret_cast<F4>((m & reinterpret_cast<I4>(yes)) | (~m & reinterpret_cast<I4>(no)));
}
BITTERN_INLINE F4 max(F4 a, F4 b) { return select(a > b, a, b); }
BITTERN_INLINE F4 min(F4 a, F4 b) { return select(a < b, a, b); }
BITTERN_INLINE F4 abs(F4 a) { return reinterpret_cast<F4>(reinterpret_cast<I4>(a) & 0x7fffffff); }
BITTERN_INLINE F4 copy_sign(F4 a, F4 sign) {
  const I4 s = reinterpret_cast<I4>(sign) & static_cast<std::int32_t>(0x80000000u);
  return reinterpret_cast<F4>(reinterpret_cast<I4>(abs(a)) | s);
}
/// To nearest even, for |a| < 2^22: adding 1.5 * 2^23 leaves no bits below the unit.
BITTERN_INLINE F4 round(F4 a) {
  const F4 magic = {12582912.0f, 12582912.0f, 12582912.0f, 12582912.0f};
  return (a + magic) - magic;
}
BITTERN_INLINE F4 scale_by_power(F4 a, F4 n) {
  const I4 e = (__builtin_convertvector(n, I4) + 127) << 23;
  return a * reinterpret_cast<F4>(e);
}
BITTERN_INLINE float sum_lanes(F4 v) { return (v[0] + v[2]) + (v[1] + v[3]); }
BITTERN_INLINE float larger(float a, float b) { return a > b ? a : b; }
BITTERN_INLINE float max_lanes(F4 v) { return larger(larger(v[0], v[2]), larger(v[1], v[3])); }
BITTERN_INLINE F4 bf16_low(I4 w) { return reinterpret_cast<F4>(w << 16); }
BITTERN_INLINE F4 bf16_high(I4 w) { return reinterpret_cast<F4>(w & static_cast<std::int32_t>(0xffff0000u)); }
template <int i>
BITTERN_INLINE F4 nibble_signed(I4 w) {
  return __builtin_convertvector((w << (28 - 4 * i)) >> 28, F4);
}
template <int j>
BITTERN_INLINE F4 byte_signed(I4 w) {
  return __builtin_convertvector((w << (24 - 8 * j)) >> 24, F4);
}
BITTERN_INLINE I4 add_int(I4 a, I4 b) { return a + b; }
BITTERN_INLINE I4 sub_int(I4 a, I4 b) { return a - b; }
BITTERN_INLINE I4 mul_int(I4 a, I4 b) { return a * b; }
BITTERN_INLINE F4 to_float(I4 a) { return __builtin_convertvector(a, F4); }
BITTERN_INLINE I4 dot_bytes(I4 acc, I4 w, I4 x) {
  acc += ((w << 24) >> 24) * ((x << 24) >> 24) + ((w << 16) >> 24) * ((x << 16) >> 24);
  return acc + ((w << 8) >> 24) * ((x << 8) >> 24) + (w >> 24) * (x >> 24);
}
struct LookupTable {
  const float* numbers;
};
BITTERN_INLINE LookupTable load_lookup(const float* numbers) { return {numbers}; }
template <int i>
BITTERN_INLINE F4 lookup_nibble(I4 w, const LookupTable& t) {
  const I4 at = (w >> (4 * i)) & 15;
  return F4{t.numbers[at[0]], t.numbers[at[1]], t.numbers[at[2]], t.numbers[at[3]]};
}
template <int i>
BITTERN_INLINE F4 nibble_unsigned(I4 w) {
  return __builtin_convertvector((w >> (4 * i)) & 15, F4);
}

}  // namespace
}  // namespace bittern::cpu

#include "backend/cpu/kernels/simd_pair.h"

namespace bittern::cpu {
namespace {

using V = Pair<Pair<F4>>;
using I = Pair<Pair<I4>>;
using M = Pair<Pair<I4>>;

}  // namespace
}  // namespace bittern::cpu

#include "backend/cpu/kernels/simd_pair_api.h"

namespace bittern::cpu {
namespace {

/// Sixteen nibbles from eight bytes: lane l is nibble l/2 of dword l%2.
BITTERN_INLINE V load_nibbles(const std::uint8_t* p, NibbleTable) {
  std::uint32_t w[2];
  __builtin_memcpy(w, p, 8);
  float lane[16];
  for (int l = 0; l < 16; ++l) lane[l] = static_cast<float>((w[l & 1] >> (4 * (l >> 1))) & 15u);
  return load(lane);
}

}  // namespace
}  // namespace bittern::cpu
