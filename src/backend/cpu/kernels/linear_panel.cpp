// Linear for many rows: a block of inputs of a few tiles is dequantized once into a panel of floats in cache, which
// every row of x then multiplies in register tiles of rows x tiles. Sums between blocks wait in memory as exact f32, so
// each output is the same chain of operations, in the same order, as in linear_direct.cpp: prefill equals decode bit
// for bit.
#include "backend/cpu/kernels/isa.h"
#include "backend/cpu/kernels/linear_tiles.h"

namespace bittern::cpu {
namespace {

/// Where one block of inputs stands: its panel, its rows of x and what to do with the sums before and after.
struct Block {
  const float* panel;
  Index panel_stride;          // floats from tile to tile
  Index k, count;              // inputs [k, k + count)
  Index group;                 // grouped: which
  bool opens, closes;          // grouped: the block starts and ends its group
  const std::uint8_t* header;  // grouped: of the first tile
};

template <class Tile, int j>
BITTERN_INLINE void decode_step(typename Tile::Raw raw, float* to, typename Tile::Table table) {
  store(to + j * kLanes, Tile::template weight<j>(raw, table));
  if constexpr (j + 1 < Tile::kInputs) decode_step<Tile, j + 1>(raw, to, table);
}

template <class Tile, int NT>
void decode_panel(const std::uint8_t* w, Index tile_bytes, Index count, const float* numbers, float* panel) {
  const typename Tile::Table table = Tile::table(numbers);
  for (int t = 0; t < NT; ++t) {
    const std::uint8_t* from = w + t * tile_bytes;
    float* to = panel + t * kPanelInputs * kLanes;
    for (Index k = 0; k < count; k += Tile::kInputs, from += kStepBytes, to += Tile::kInputs * kLanes) {
      decode_step<Tile, 0>(Tile::read(from), to, table);
    }
  }
}

/// acc (MR rows x NT tiles) += x . panel.
template <int MR, int NT>
BITTERN_INLINE void multiply_panel(V (&acc)[MR][NT], const float* x, Index x_stride, const Block& b) {
  const float* p = b.panel;
  for (Index k = 0; k < b.count; ++k, p += kLanes) {
    V w[NT];
#pragma GCC unroll 8
    for (int t = 0; t < NT; ++t) w[t] = load(p + t * b.panel_stride);
#pragma GCC unroll 8
    for (int m = 0; m < MR; ++m) {
      const V v = set1(x[m * x_stride + k]);
#pragma GCC unroll 8
      for (int t = 0; t < NT; ++t) acc[m][t] = fma(v, w[t], acc[m][t]);
    }
  }
}

/// `total` and `partial` are the sums of these rows, (rows, NT tiles) each; dense weights use total alone.
template <bool grouped, int MR, int NT>
void block_rows(const LinearArgs& a, const Block& b, Index row, float* total, float* partial) {
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
  multiply_panel<MR, NT>(acc, a.x + row * a.x_stride + b.k, a.x_stride, b);
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
BITTERN_INLINE void block_tail(const LinearArgs& a, const Block& b, Index row, float* total, float* partial) {
  if constexpr (MR > 0) {
    if (a.row_end - row == MR) {
      block_rows<grouped, MR, NT>(a, b, row, total, partial);
    } else {
      block_tail<grouped, MR - 1, NT>(a, b, row, total, partial);
    }
  }
}

template <bool grouped, int NT>
void block_all_rows(const LinearArgs& a, const Block& b, float* total, float* partial) {
  Index row = a.row_begin;
  for (; row + kPanelRows <= a.row_end; row += kPanelRows) {
    const Index at = (row - a.row_begin) * NT * kLanes;
    block_rows<grouped, kPanelRows, NT>(a, b, row, total + at, partial + at);
  }
  const Index at = (row - a.row_begin) * NT * kLanes;
  block_tail<grouped, kPanelRows - 1, NT>(a, b, row, total + at, partial + at);
}

template <class Tile, int NT>
BITTERN_INLINE void run_block(const LinearArgs& a, const std::uint8_t* w, Block b, float* total, float* partial) {
  if constexpr (Tile::kInputs == 1) {  // f32 is its own panel
    b.panel = reinterpret_cast<const float*>(w);
    b.panel_stride = a.tile_bytes / static_cast<Index>(sizeof(float));
  } else {
    decode_panel<Tile, NT>(w, a.tile_bytes, b.count, a.table, a.scratch);
    b.panel = a.scratch;
    b.panel_stride = kPanelInputs * kLanes;
  }
  block_all_rows<Tile::kGrouped, NT>(a, b, total, partial);
}

template <class Tile, int NT>
void panel_groups(const LinearArgs& a, const std::uint8_t* w, float* total, float* partial) {
  for (Index g = 0; g < a.groups; ++g) {
    const Index begin = g * a.group, length = smaller(a.group, a.inputs - begin);
    const std::uint8_t* header = w;
    w += header_bytes(a);
    for (Index k = 0; k < length; k += kPanelInputs) {
      const Index count = smaller(kPanelInputs, length - k);
      run_block<Tile, NT>(a, w, {nullptr, 0, begin + k, count, g, k == 0, k + count == length, header}, total, partial);
      w += steps_of<Tile>(count) * kStepBytes;
    }
  }
}

template <class Tile, int NT>
void panel_dense(const LinearArgs& a, const std::uint8_t* w, float* total) {
  for (Index k = 0; k < a.inputs; k += kPanelInputs) {
    const Index count = smaller(kPanelInputs, a.inputs - k);
    run_block<Tile, NT>(a, w, {nullptr, 0, k, count, 0, false, false, nullptr}, total, nullptr);
    w += steps_of<Tile>(count) * kStepBytes;
  }
}

template <class Tile, int NT>
void panel_tiles(const LinearArgs& a, Index tile) {
  const Index rows = a.row_end - a.row_begin;
  float* total = a.scratch + kPanelInputs * kPanelMaxTiles * kLanes;
  float* partial = total + kPanelMaxRows * kPanelMaxTiles * kLanes;
  for (; tile + NT <= a.tile_end; tile += NT) {
    for (Index i = 0; i < rows * NT; ++i) store(total + i * kLanes, zero());
    const std::uint8_t* w = a.tiles + tile * a.tile_bytes;
    if constexpr (Tile::kGrouped) {
      panel_groups<Tile, NT>(a, w, total, partial);
    } else {
      panel_dense<Tile, NT>(a, w, total);
    }
    for (Index i = 0; i < rows * NT; ++i) {
      write_outputs(a, a.row_begin + i / NT, tile + i % NT, load(total + i * kLanes));
    }
  }
  if constexpr (NT > 1) {
    if (tile < a.tile_end) panel_tiles<Tile, 1>(a, tile);
  }
}

template <class Tile>
void panel(const LinearArgs* args) {
  panel_tiles<Tile, kPanelTiles>(*args, args->tile_begin);
}

}  // namespace

void BITTERN_ISA_NAME(fill_linear_panel)(LinearTable* table) {
  table->panel[static_cast<int>(TileKind::f32)] = panel<TileF32>;
  table->panel[static_cast<int>(TileKind::bf16)] = panel<TileBf16>;
  table->panel[static_cast<int>(TileKind::f16)] = panel<TileF16>;
  table->panel[static_cast<int>(TileKind::w4)] = panel<TileW4>;
  table->panel[static_cast<int>(TileKind::t4)] = panel<TileT4>;
  table->panel[static_cast<int>(TileKind::w8)] = panel<TileW8>;
  table->panel[static_cast<int>(TileKind::e4m3)] = panel<TileE4m3>;
  table->panel_tiles = kPanelTiles;
}

}  // namespace bittern::cpu
