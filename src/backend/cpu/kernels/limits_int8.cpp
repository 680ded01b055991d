// What vpdpbusd can do at most: chains of four-fold byte products in registers. For benchmarks alone.
#include <immintrin.h>

#include "backend/cpu/kernels/kernels.h"

namespace bittern::cpu {
namespace {

constexpr int kChains = 12, kProducts = 64;

float dot_bytes(Index rounds) {
  __m512i acc[kChains];
#pragma GCC unroll 16
  for (int i = 0; i < kChains; ++i) acc[i] = _mm512_set1_epi32(i);
  const __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(-5);
  for (Index r = 0; r < rounds; ++r) {
#pragma GCC unroll 16
    for (int i = 0; i < kChains; ++i) acc[i] = _mm512_dpbusd_epi32(acc[i], a, b);
  }
  __m512i total = acc[0];
#pragma GCC unroll 16
  for (int i = 1; i < kChains; ++i) total = _mm512_add_epi32(total, acc[i]);
  alignas(64) int lanes[16];
  _mm512_store_si512(lanes, total);
  return static_cast<float>(lanes[0]);
}

}  // namespace

const DotLimit* int8_dot_limit() {
  static const DotLimit limit = {dot_bytes, 2 * kProducts * kChains};
  return &limit;
}

}  // namespace bittern::cpu
