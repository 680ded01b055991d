// What vdpbf16ps can do at most: chains of paired bf16 products in registers. For benchmarks alone.
#include <immintrin.h>

#include "backend/cpu/kernels/kernels.h"

namespace bittern::cpu {
namespace {

constexpr int kChains = 12, kProducts = 32;

float dot_bf16(Index rounds) {
  __m512 acc[kChains];
#pragma GCC unroll 16
  for (int i = 0; i < kChains; ++i) acc[i] = _mm512_set1_ps(static_cast<float>(i));
  const __m512bh a = _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.75f), _mm512_set1_ps(0.5f)), b = a;
  for (Index r = 0; r < rounds; ++r) {
#pragma GCC unroll 16
    for (int i = 0; i < kChains; ++i) acc[i] = _mm512_dpbf16_ps(acc[i], a, b);
  }
  __m512 total = acc[0];
#pragma GCC unroll 16
  for (int i = 1; i < kChains; ++i) total = _mm512_add_ps(total, acc[i]);
  alignas(64) float lanes[16];
  _mm512_store_ps(lanes, total);
  return lanes[0];
}

}  // namespace

const DotLimit* bf16_dot_limit() {
  static const DotLimit limit = {dot_bf16, 2 * kProducts * kChains};
  return &limit;
}

}  // namespace bittern::cpu
