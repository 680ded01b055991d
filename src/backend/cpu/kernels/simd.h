// simd.h: V, sixteen float lanes, on whatever instruction set this translation unit is compiled for.
// Every kernel is written once over the functions named here; each set spells them with its own instructions
// (simd_avx512.h natively, simd_avx2.h and simd_generic.h as pairs of narrower vectors, see simd_pair.h).
// Everything is in an anonymous namespace on purpose: no symbol of one instruction set can be called by another.
#pragma once

#include <cstddef>
#include <cstdint>

#define BITTERN_INLINE static inline __attribute__((always_inline))

#if defined(__AVX512F__)
#include "backend/cpu/kernels/simd_avx512.h"
#elif defined(__AVX2__)
#include "backend/cpu/kernels/simd_avx2.h"
#else
#include "backend/cpu/kernels/simd_generic.h"
#endif

namespace bittern::cpu {
namespace {

constexpr int kLanes = 16;  // of V, on every instruction set: a packing made for one works for all

/// The first n lanes from memory, the rest zero; n may be 16 or more.
BITTERN_INLINE V load_upto(const float* p, std::int64_t n) {
  return n >= kLanes ? load(p) : load_part(p, static_cast<int>(n));
}
BITTERN_INLINE void store_upto(float* p, V v, std::int64_t n) {
  if (n >= kLanes) {
    store(p, v);
  } else {
    store_part(p, v, static_cast<int>(n));
  }
}

/// e^x to about one unit in the last place of f32, by the same polynomial everywhere; 0 below -87.
BITTERN_INLINE V exp(V x) {
  const V n = round(mul(x, set1(1.44269504088896341f)));
  V r = fnma(n, set1(0.693359375f), x);
  r = fnma(n, set1(-2.12194440e-4f), r);
  V p = set1(1.9841269841e-4f);
  p = fma(p, r, set1(1.3888888889e-3f));
  p = fma(p, r, set1(8.3333333333e-3f));
  p = fma(p, r, set1(4.1666666667e-2f));
  p = fma(p, r, set1(1.6666666667e-1f));
  p = fma(p, r, set1(0.5f));
  p = fma(p, mul(r, r), r);
  p = add(p, set1(1.0f));
  const V lowest = set1(-87.0f), highest = set1(88.0f);
  const V scaled = scale_by_power(p, max(min(n, set1(127.0f)), set1(-126.0f)));
  return select(less(x, lowest), zero(), select(less(highest, x), set1(__builtin_inff()), scaled));
}

/// tanh(x): an odd polynomial near zero keeps the relative precision that 1 - 2/(e^2x+1) loses there.
BITTERN_INLINE V tanh(V x) {
  const V a = abs(x);
  const V t = exp(mul(a, set1(-2.0f)));
  const V far = div(sub(set1(1.0f), t), add(set1(1.0f), t));
  const V s = mul(x, x);
  V p = set1(-5.70498872745e-3f);
  p = fma(p, s, set1(2.06390887954e-2f));
  p = fma(p, s, set1(-5.37397155531e-2f));
  p = fma(p, s, set1(1.33314422036e-1f));
  p = fma(p, s, set1(-3.33332819422e-1f));
  const V near = fma(mul(p, s), a, a);
  return copy_sign(select(less(a, set1(0.625f)), near, far), x);
}

}  // namespace
}  // namespace bittern::cpu
