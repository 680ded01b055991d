// Loops that measure what the machine can do at most: read memory in a number of streams, and multiply-add in
// registers. Every benchmark figure is reported as a fraction of these. Compiled once per instruction set.
#include "backend/cpu/kernels/isa.h"
#include "backend/cpu/kernels/tiles.h"

namespace bittern::cpu {
namespace {

template <int S>
float read_in_streams(const float* data, Index floats) {
  const Index each = floats / S / kLanes * kLanes;
  V sum[S];
#pragma GCC unroll 16
  for (int s = 0; s < S; ++s) sum[s] = zero();
  for (Index i = 0; i < each; i += kLanes) {
#pragma GCC unroll 16
    for (int s = 0; s < S; ++s) {
      prefetch(data + s * each + i + kPrefetchBytes / 4);
      sum[s] = add(sum[s], load(data + s * each + i));
    }
  }
  V total = sum[0];
#pragma GCC unroll 16
  for (int s = 1; s < S; ++s) total = add(total, sum[s]);
  return sum_lanes(total);
}

float read_memory(const float* data, Index floats, int streams) {
  switch (streams) {
    case 1: return read_in_streams<1>(data, floats);
    case 2: return read_in_streams<2>(data, floats);
    case 4: return read_in_streams<4>(data, floats);
    default: return read_in_streams<8>(data, floats);
  }
}

float multiply_add(Index rounds) {
  constexpr int kChains = kPanelRows * kPanelTiles < 12 ? kPanelRows * kPanelTiles : 12;
  V acc[kChains];
#pragma GCC unroll 16
  for (int i = 0; i < kChains; ++i) acc[i] = set1(static_cast<float>(i));
  const V a = set1(0.999f), b = set1(0.001f);
  for (Index r = 0; r < rounds; ++r) {
#pragma GCC unroll 16
    for (int i = 0; i < kChains; ++i) acc[i] = fma(acc[i], a, b);
  }
  V total = acc[0];
#pragma GCC unroll 16
  for (int i = 1; i < kChains; ++i) total = add(total, acc[i]);
  return sum_lanes(total);
}

}  // namespace

void BITTERN_ISA_NAME(fill_limits)(LimitTable* table) {
  table->read_memory = read_memory;
  table->multiply_add = multiply_add;
  table->flops_per_round = 2 * kLanes * (kPanelRows * kPanelTiles < 12 ? kPanelRows * kPanelTiles : 12);
}

}  // namespace bittern::cpu
