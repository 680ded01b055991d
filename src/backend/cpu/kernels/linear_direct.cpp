// Linear for a few rows: the packed weights are decoded in registers and used at once, several tiles side by side so
// that multiply-adds overlap and memory is read in several streams. Each output is one chain of multiply-adds in input
// order, whatever the number of rows or tiles, so a row's result does not depend on the rest of the batch.
// Compiled once per instruction set; the panel kernels do the same sums in the same order for many rows.
#include "backend/cpu/kernels/isa.h"
#include "backend/cpu/kernels/linear_tiles.h"

namespace bittern::cpu {
namespace {

template <class Tile, int MR, int NT>
BITTERN_INLINE void multiply_groups(V (&acc)[MR][NT], const LinearArgs& a, const std::uint8_t* w,
                                    const float* const (&x)[MR], Index row, typename Tile::Table table) {
  const Index header = header_bytes(a);
  for (Index g = 0; g < a.groups; ++g) {
    const Index k = g * a.group, steps = steps_of<Tile>(smaller(a.group, a.inputs - k));
    V partial[MR][NT];
#pragma GCC unroll 8
    for (int t = 0; t < NT; ++t) {
#pragma GCC unroll 8
      for (int m = 0; m < MR; ++m) partial[m][t] = open_group(a, w + t * a.tile_bytes, group_sum(a, row + m, g));
    }
    multiply_steps<Tile, MR, NT>(partial, w + header, a.tile_bytes, x, k, steps, table);
#pragma GCC unroll 8
    for (int t = 0; t < NT; ++t) {
#pragma GCC unroll 8
      for (int m = 0; m < MR; ++m) {
        acc[m][t] = close_group(a, w + t * a.tile_bytes, acc[m][t], partial[m][t], group_sum(a, row + m, g));
      }
    }
    w += header + steps * kStepBytes;
  }
}

/// MR rows from `row` times NT tiles from `tile`.
template <class Tile, int MR, int NT>
void direct_block(const LinearArgs& a, Index row, Index tile) {
  V acc[MR][NT];
  const float* x[MR];
#pragma GCC unroll 8
  for (int m = 0; m < MR; ++m) {
    x[m] = a.x + (row + m) * a.x_stride;
#pragma GCC unroll 8
    for (int t = 0; t < NT; ++t) acc[m][t] = zero();
  }
  const std::uint8_t* w = a.tiles + tile * a.tile_bytes;
  const typename Tile::Table table = Tile::table(a.table);
  if constexpr (Tile::kGrouped) {
    multiply_groups<Tile, MR, NT>(acc, a, w, x, row, table);
  } else {
    multiply_steps<Tile, MR, NT>(acc, w, a.tile_bytes, x, 0, steps_of<Tile>(a.inputs), table);
  }
#pragma GCC unroll 8
  for (int m = 0; m < MR; ++m) {
#pragma GCC unroll 8
    for (int t = 0; t < NT; ++t) write_outputs(a, row + m, tile + t, acc[m][t]);
  }
}

template <class Tile, int NT>
void direct_rows(const LinearArgs& a, Index tile) {
  Index row = a.row_begin;
  if constexpr (kDirectRows >= 4 && NT <= kDirectTiles / 2) {
    for (; row + 4 <= a.row_end; row += 4) direct_block<Tile, 4, NT>(a, row, tile);
  }
  if constexpr (kDirectRows >= 2 && NT <= kDirectTiles / 2) {
    for (; row + 2 <= a.row_end; row += 2) direct_block<Tile, 2, NT>(a, row, tile);
  }
  for (; row < a.row_end; ++row) direct_block<Tile, 1, NT>(a, row, tile);
}

// Grouped weights keep two accumulators per output and more operands, so they take half as many tiles; with several
// rows at once there are enough chains anyway.
template <class Tile, int NT>
void direct_tiles(const LinearArgs& a, Index tile) {
  for (; tile + NT <= a.tile_end; tile += NT) direct_rows<Tile, NT>(a, tile);
  if constexpr (NT > 1) {
    if (tile < a.tile_end) direct_tiles<Tile, NT / 2>(a, tile);
  }
}

template <class Tile>
void direct(const LinearArgs* args) {
  const LinearArgs& a = *args;
  constexpr int kHalf = kDirectTiles / 2;
  if (Tile::kGrouped || a.row_end - a.row_begin > 1) {
    direct_tiles<Tile, kHalf>(a, a.tile_begin);
  } else {
    direct_tiles<Tile, kDirectTiles>(a, a.tile_begin);
  }
}

void group_sums(const float* x, Index inputs, Index group, float* sums) {
  for (Index k = 0, g = 0; k < inputs; k += group, ++g) {
    const Index end = smaller(k + group, inputs);
    V total = zero();
    for (Index i = k; i < end; i += kLanes) total = add(total, load_upto(x + i, end - i));
    sums[g] = sum_lanes(total);
  }
}

}  // namespace

void BITTERN_ISA_NAME(fill_linear_direct)(LinearTable* table) {
  table->direct[static_cast<int>(TileKind::f32)] = direct<TileF32>;
  table->direct[static_cast<int>(TileKind::bf16)] = direct<TileBf16>;
  table->direct[static_cast<int>(TileKind::f16)] = direct<TileF16>;
  table->direct[static_cast<int>(TileKind::w4)] = direct<TileW4>;
  table->direct[static_cast<int>(TileKind::t4)] = direct<TileT4>;
  table->direct[static_cast<int>(TileKind::w8)] = direct<TileW8>;
  table->direct[static_cast<int>(TileKind::e4m3)] = direct<TileE4m3>;
  table->group_sums = group_sums;
  table->direct_tiles = kDirectTiles;
}

}  // namespace bittern::cpu
