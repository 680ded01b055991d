// Linear of many rows over 4- and 8-bit weights with AVX512-VNNI: a panel of weights becomes bytes once, together with
// its scales and zeros, and then meets blocks of six rows with 24 sums in registers. Bound by vpdpbusd: a group of 128
// costs 32 of them per sum and four instructions to open and close it. Gives the bits of linear_int8dot.cpp.
#include "backend/cpu/kernels/int8_codes.h"
#include "backend/cpu/kernels/isa.h"

namespace bittern::cpu {
namespace {

constexpr int kRows = 6, kTiles = 4;
constexpr Index kPanelBytesInputs =
    256;  // inputs of a panel, or one group: 16 KiB, so that it stays in the first cache

Index groups_per_panel(Index group) { return greater(1, kPanelBytesInputs / group); }
/// Bytes of one group of a panel of NT tiles: scales, zeros, then four inputs of each tile at a time.
BITTERN_INLINE Index panel_group_bytes(Index group, Index tiles) { return tiles * (128 + (group + 3) / 4 * 64 + 64); }
Index scratch_bytes(Index group) {
  return kPanelMaxRows * kTiles * 64 + groups_per_panel(group) * panel_group_bytes(group, kTiles);
}

/// Group g of NT tiles as bytes.
template <class Codes, int NT>
void unpack_group(const LinearArgs& a, Index tile, Index g, std::uint8_t* to) {
  const Index header = header_bytes(a), steps = steps_of<Codes>(smaller(a.group, a.inputs - g * a.group));
  const I center = center_bytes(a);
  const std::uint8_t* from = a.tiles + tile * a.tile_bytes + g * (header + a.group / Codes::kInputs * kStepBytes);
  std::uint8_t* codes = to + NT * 128;
  for (int t = 0; t < NT; ++t, from += a.tile_bytes) {
    store(reinterpret_cast<float*>(to) + t * kLanes, header_scales(a, from));
    _mm512_store_si512(to + NT * 64 + t * 64, zero_pairs(a, from));
    const std::uint8_t* p = from + header;
    for (Index s = 0; s < steps; ++s, p += kStepBytes) {
      const I raw = load_bits(p);
      prefetch(p + kPrefetchBytes);
      std::uint8_t* step = codes + s * Codes::kVectors * NT * 64 + t * 64;
      _mm512_store_si512(step, code_bytes<Codes, 0>(raw, center));
      if constexpr (Codes::kVectors > 1) _mm512_store_si512(step + NT * 64, code_bytes<Codes, 1>(raw, center));
    }
  }
}

/// totals (MR, NT * 16) += group g of the panel times MR rows.
template <int MR, int NT>
BITTERN_INLINE void multiply_group(const LinearArgs& a, const std::uint8_t* panel, Index g, Index fours, Index row,
                                   float* totals) {
  I sum[MR][NT];
#pragma GCC unroll 8
  for (int m = 0; m < MR; ++m) {
    const std::int32_t split = a.x_sums[(row + m) * a.groups + g];
#pragma GCC unroll 8
    for (int t = 0; t < NT; ++t) sum[m][t] = open_sum(load_bits(panel + NT * 64 + t * 64), split);
  }
  const std::int8_t* x = a.x_int8 + row * a.x_int8_stride + g * a.group;
  const std::uint8_t* p = panel + NT * 128;
  for (Index i = 0; i < fours; ++i, p += NT * 64, x += 4) {
    I codes[NT];
#pragma GCC unroll 8
    for (int t = 0; t < NT; ++t) codes[t] = load_bits(p + t * 64);
#pragma GCC unroll 8
    for (int m = 0; m < MR; ++m) {
      const I four = broadcast_four(x + m * a.x_int8_stride);
#pragma GCC unroll 8
      for (int t = 0; t < NT; ++t) dot_four(sum[m][t], codes[t], four);
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < MR; ++m) {
    const float x_scale = a.x_scales[(row + m) * a.groups + g];
#pragma GCC unroll 8
    for (int t = 0; t < NT; ++t) {
      float* total = totals + (m * NT + t) * kLanes;
      const V scale = load(reinterpret_cast<const float*>(panel) + t * kLanes);
      store(total, close_sum(load(total), scale, x_scale, sum[m][t]));
    }
  }
}

template <class Codes, int MR, int NT>
void multiply_panel(const LinearArgs& a, const std::uint8_t* panel, Index first, Index last, Index row, float* totals) {
  for (Index g = first; g < last; ++g, panel += panel_group_bytes(a.group, NT)) {
    const Index fours = steps_of<Codes>(smaller(a.group, a.inputs - g * a.group)) * Codes::kVectors;
    multiply_group<MR, NT>(a, panel, g, fours, row, totals);
  }
}

template <class Codes, int MR, int NT>
void multiply_rows(const LinearArgs& a, const std::uint8_t* panel, Index first, Index last, Index row, Index rows,
                   float* totals) {
  if (rows == MR) return multiply_panel<Codes, MR, NT>(a, panel, first, last, row, totals);
  if constexpr (MR > 1) multiply_rows<Codes, MR - 1, NT>(a, panel, first, last, row, rows, totals);
}

template <class Codes, int NT>
void panel_columns(const LinearArgs& a, Index tile) {
  const Index rows = a.row_end - a.row_begin, blocks = (rows + kRows - 1) / kRows, width = NT * kLanes;
  float* totals = a.scratch;
  std::uint8_t* panel = reinterpret_cast<std::uint8_t*>(totals + kPanelMaxRows * kTiles * kLanes);
  __builtin_memset(totals, 0, static_cast<std::size_t>(rows * width) * sizeof(float));
  for (Index first = 0; first < a.groups; first += groups_per_panel(a.group)) {
    const Index last = smaller(a.groups, first + groups_per_panel(a.group));
    for (Index g = first; g < last; ++g) {
      unpack_group<Codes, NT>(a, tile, g, panel + (g - first) * panel_group_bytes(a.group, NT));
    }
    for (Index b = 0; b < blocks; ++b) {  // blocks differ by one row at most
      const Index begin = rows * b / blocks, end = rows * (b + 1) / blocks;
      multiply_rows<Codes, kRows, NT>(a, panel, first, last, a.row_begin + begin, end - begin, totals + begin * width);
    }
  }
  for (Index r = 0; r < rows; ++r) {
    for (int t = 0; t < NT; ++t) write_outputs(a, a.row_begin + r, tile + t, load(totals + r * width + t * kLanes));
  }
}

template <class Codes, int NT>
void panel_tiles(const LinearArgs& a, Index tile) {
  for (; tile + NT <= a.tile_end; tile += NT) panel_columns<Codes, NT>(a, tile);
  if constexpr (NT > 1) {
    if (tile < a.tile_end) panel_tiles<Codes, NT / 2>(a, tile);
  }
}

template <class Codes>
void run(const LinearArgs* a) {
  panel_tiles<Codes, kTiles>(*a, a->tile_begin);
}

}  // namespace

const Int8PanelTable* linear_int8panel_table() {
  static const Int8PanelTable table = {run<NibbleCodes>, run<ByteCodes>, scratch_bytes, kTiles};
  return &table;
}

}  // namespace bittern::cpu
