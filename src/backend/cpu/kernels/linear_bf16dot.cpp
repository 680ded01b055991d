// Linear for many rows with AVX512-BF16: x is rounded to bf16 and vdpbf16ps multiplies two inputs at a time: twice the
// work per instruction of f32, which is faster only on CPUs that issue it as often (LinearRunner measures that). bf16
// weights are used as they lie; 4-bit weights become small integers, which bf16 holds exactly, so only x is rounded.
// Its sums pair inputs, so its bits differ from the f32 kernels: never when deterministic.
#include "backend/cpu/kernels/isa.h"
#include "backend/cpu/kernels/linear_tiles.h"

namespace bittern::cpu {
namespace {

constexpr int kBf16Rows = 6, kBf16Tiles = 4;

/// Inputs [k, k + 2 * pairs) of some tiles: 16 dwords of two bf16 per pair of inputs.
struct PairBlock {
  const std::uint8_t* panel;
  Index panel_stride;  // bytes from tile to tile
  Index k, pairs;
  Index group;
  bool opens, closes;
  const std::uint8_t* header;
};

BITTERN_INLINE V dot_pairs(V acc, I x, I w) {
  return _mm512_dpbf16_ps(acc, reinterpret_cast<__m512bh>(x), reinterpret_cast<__m512bh>(w));
}

template <int j>
BITTERN_INLINE void decode_pairs(I raw, std::uint8_t* to, NibbleTable table) {
  const I low = _mm512_castps_si512(signed_nibble<j>(raw, table));
  const I high = _mm512_castps_si512(signed_nibble<j + 1>(raw, table));
  _mm512_storeu_si512(to + j / 2 * kStepBytes, _mm512_or_si512(_mm512_srli_epi32(low, 16), high));
  if constexpr (j + 2 < 8) decode_pairs<j + 2>(raw, to, table);
}

template <int NT>
void decode_panel(const std::uint8_t* w, Index tile_bytes, Index steps, std::uint8_t* panel, Index panel_stride) {
  const NibbleTable table = signed_nibbles();
  for (int t = 0; t < NT; ++t) {
    for (Index s = 0; s < steps; ++s) {
      decode_pairs<0>(load_bits(w + t * tile_bytes + s * kStepBytes), panel + t * panel_stride + s * 4 * kStepBytes,
                      table);
    }
  }
}

template <bool grouped, int MR, int NT>
void dot_rows(const LinearArgs& a, const PairBlock& b, Index row, float* total, float* partial) {
  V acc[MR][NT];
  float* sums = grouped ? partial : total;
#pragma GCC unroll 8
  for (int m = 0; m < MR; ++m) {
#pragma GCC unroll 8
    for (int t = 0; t < NT; ++t) {
      if (grouped && b.opens) {
        acc[m][t] = open_group(a, b.header + t * a.tile_bytes, group_sum(a, row + m, b.group));
      } else {
        acc[m][t] = load(sums + (m * NT + t) * kLanes);
      }
    }
  }
  const std::uint16_t* x = a.x_bf16 + row * a.x_bf16_stride + b.k;
  for (Index p = 0; p < b.pairs; ++p) {
    I w[NT];
#pragma GCC unroll 8
    for (int t = 0; t < NT; ++t) w[t] = load_bits(b.panel + t * b.panel_stride + p * kStepBytes);
#pragma GCC unroll 8
    for (int m = 0; m < MR; ++m) {
      int pair;
      __builtin_memcpy(&pair, x + m * a.x_bf16_stride + 2 * p, 4);
      const I v = _mm512_set1_epi32(pair);
#pragma GCC unroll 8
      for (int t = 0; t < NT; ++t) acc[m][t] = dot_pairs(acc[m][t], v, w[t]);
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < MR; ++m) {
#pragma GCC unroll 8
    for (int t = 0; t < NT; ++t) {
      const Index at = (m * NT + t) * kLanes;
      if (grouped && b.closes) {
        store(total + at,
              close_group(a, b.header + t * a.tile_bytes, load(total + at), acc[m][t], group_sum(a, row + m, b.group)));
      } else {
        store(sums + at, acc[m][t]);
      }
    }
  }
}

template <bool grouped, int MR, int NT>
BITTERN_INLINE void dot_last_rows(const LinearArgs& a, const PairBlock& b, Index row, float* total, float* partial) {
  if constexpr (MR > 0) {
    if (a.row_end - row == MR) {
      dot_rows<grouped, MR, NT>(a, b, row, total, partial);
    } else {
      dot_last_rows<grouped, MR - 1, NT>(a, b, row, total, partial);
    }
  }
}

template <bool grouped, int NT>
void dot_block(const LinearArgs& a, const PairBlock& b, float* total, float* partial) {
  Index row = a.row_begin;
  for (; row + kBf16Rows <= a.row_end; row += kBf16Rows) {
    const Index at = (row - a.row_begin) * NT * kLanes;
    dot_rows<grouped, kBf16Rows, NT>(a, b, row, total + at, partial + at);
  }
  const Index at = (row - a.row_begin) * NT * kLanes;
  dot_last_rows<grouped, kBf16Rows - 1, NT>(a, b, row, total + at, partial + at);
}

template <int NT>
void dot_groups(const LinearArgs& a, const std::uint8_t* w, float* total, float* partial) {
  std::uint8_t* panel = reinterpret_cast<std::uint8_t*>(a.scratch);
  constexpr Index kStride = kPanelInputs / 2 * kStepBytes;
  for (Index g = 0; g < a.groups; ++g) {
    const Index begin = g * a.group, length = smaller(a.group, a.inputs - begin);
    const std::uint8_t* header = w;
    w += header_bytes(a);
    for (Index k = 0; k < length; k += kPanelInputs) {
      const Index count = smaller(kPanelInputs, length - k), steps = (count + 7) / 8;
      decode_panel<NT>(w, a.tile_bytes, steps, panel, kStride);
      dot_block<true, NT>(a, {panel, kStride, begin + k, (count + 1) / 2, g, k == 0, k + count == length, header},
                          total, partial);
      w += steps * kStepBytes;
    }
  }
}

template <bool grouped, int NT>
void dot_tiles(const LinearArgs& a, Index tile) {
  const Index rows = a.row_end - a.row_begin;
  float* total = a.scratch + kPanelInputs * kPanelMaxTiles * kLanes;
  float* partial = total + kPanelMaxRows * kPanelMaxTiles * kLanes;
  for (; tile + NT <= a.tile_end; tile += NT) {
    for (Index i = 0; i < rows * NT; ++i) store(total + i * kLanes, zero());
    const std::uint8_t* w = a.tiles + tile * a.tile_bytes;
    if constexpr (grouped) {
      dot_groups<NT>(a, w, total, partial);
    } else {
      for (Index k = 0; k < a.inputs; k += 2 * kPanelInputs) {
        const Index pairs = (smaller(2 * kPanelInputs, a.inputs - k) + 1) / 2;
        dot_block<false, NT>(a, {w + k / 2 * kStepBytes, a.tile_bytes, k, pairs, 0, false, false, nullptr}, total,
                             total);
      }
    }
    for (Index i = 0; i < rows * NT; ++i) {
      write_outputs(a, a.row_begin + i / NT, tile + i % NT, load(total + i * kLanes));
    }
  }
  if constexpr (NT > 1) {
    if (tile < a.tile_end) dot_tiles<grouped, 1>(a, tile);
  }
}

void dot_bf16(const LinearArgs* a) { dot_tiles<false, kBf16Tiles>(*a, a->tile_begin); }
void dot_w4(const LinearArgs* a) { dot_tiles<true, kBf16Tiles>(*a, a->tile_begin); }

void round_row(const float* x, Index inputs, std::uint16_t* to) {
  for (Index i = 0; i < inputs; i += kLanes) {
    const Index left = inputs - i;
    const __m256i rounded = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(load_upto(x + i, left)));
    _mm256_mask_storeu_epi16(to + i, first_lanes(static_cast<int>(smaller(left, kLanes))), rounded);
  }
}

}  // namespace

const Bf16DotTable* linear_bf16dot_table() {
  static const Bf16DotTable table = {dot_bf16, dot_w4, round_row, kBf16Tiles};
  return &table;
}

}  // namespace bittern::cpu
