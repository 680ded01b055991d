// tiles.h: sixteen dot products in lanes. A tile is a run of 64-byte steps, each holding a few inputs of sixteen
// outputs (weights of a linear, or keys of sixteen tokens); a Tile type loads a step and gives the sixteen floats of
// input j. The multiply loop is here too, so that linear and attention do the same sums in the same order.
#pragma once

#include "backend/cpu/kernels/kernels.h"
#include "backend/cpu/kernels/simd.h"

namespace bittern::cpu {
namespace {

struct TileF32 {
  static constexpr int kInputs = 1;
  static constexpr bool kGrouped = false;
  using Table = NibbleTable;
  BITTERN_INLINE Table table(const float*) { return signed_nibbles(); }
  using Raw = V;
  BITTERN_INLINE Raw read(const std::uint8_t* p) { return load(reinterpret_cast<const float*>(p)); }
  template <int j>
  BITTERN_INLINE V weight(Raw raw, NibbleTable) {
    return raw;
  }
};

struct TileBf16 {
  static constexpr int kInputs = 2;
  static constexpr bool kGrouped = false;
  using Table = NibbleTable;
  BITTERN_INLINE Table table(const float*) { return signed_nibbles(); }
  using Raw = I;
  BITTERN_INLINE Raw read(const std::uint8_t* p) { return load_bits(p); }
  template <int j>
  BITTERN_INLINE V weight(Raw raw, NibbleTable) {
    return j == 0 ? bf16_low(raw) : bf16_high(raw);
  }
};

struct TileF16 {
  static constexpr int kInputs = 2;
  static constexpr bool kGrouped = false;
  using Table = NibbleTable;
  BITTERN_INLINE Table table(const float*) { return signed_nibbles(); }
  using Raw = const std::uint16_t*;
  BITTERN_INLINE Raw read(const std::uint8_t* p) { return reinterpret_cast<Raw>(p); }
  template <int j>
  BITTERN_INLINE V weight(Raw raw, NibbleTable) {
    return load_f16(raw + 16 * j);
  }
};

struct TileW4 {
  static constexpr int kInputs = 8;
  static constexpr bool kGrouped = true;
  using Table = NibbleTable;
  BITTERN_INLINE Table table(const float*) { return signed_nibbles(); }
  using Raw = I;
  BITTERN_INLINE Raw read(const std::uint8_t* p) { return load_bits(p); }
  template <int j>
  BITTERN_INLINE V weight(Raw raw, NibbleTable table) {
    return signed_nibble<j>(raw, table);
  }
};

struct TileT4 {
  static constexpr int kInputs = 8;
  static constexpr bool kGrouped = true;
  using Table = LookupTable;
  BITTERN_INLINE Table table(const float* numbers) { return load_lookup(numbers); }
  using Raw = I;
  BITTERN_INLINE Raw read(const std::uint8_t* p) { return load_bits(p); }
  template <int j>
  BITTERN_INLINE V weight(Raw raw, Table table) {
    return lookup_nibble<j>(raw, table);
  }
};

struct TileW8 {
  static constexpr int kInputs = 4;
  static constexpr bool kGrouped = true;
  using Table = NibbleTable;
  BITTERN_INLINE Table table(const float*) { return signed_nibbles(); }
  using Raw = I;
  BITTERN_INLINE Raw read(const std::uint8_t* p) { return load_bits(p); }
  template <int j>
  BITTERN_INLINE V weight(Raw raw, Table) {
    return byte_signed<j>(raw);
  }
};

struct TileE4m3 {
  static constexpr int kInputs = 4;
  static constexpr bool kGrouped = true;
  using Table = NibbleTable;
  BITTERN_INLINE Table table(const float*) { return signed_nibbles(); }
  using Raw = const std::uint8_t*;
  BITTERN_INLINE Raw read(const std::uint8_t* p) { return p; }
  template <int j>
  BITTERN_INLINE V weight(Raw raw, Table) {
    return load_e4m3(raw + 16 * j);
  }
};

struct TileU8 {
  static constexpr int kInputs = 4;
  static constexpr bool kGrouped = false;
  using Table = NibbleTable;
  BITTERN_INLINE Table table(const float*) { return signed_nibbles(); }
  using Raw = const std::uint8_t*;
  BITTERN_INLINE Raw read(const std::uint8_t* p) { return p; }
  template <int j>
  BITTERN_INLINE V weight(Raw raw, NibbleTable) {
    return load_u8(raw + 16 * j);
  }
};

struct TileU4 {
  static constexpr int kInputs = 8;
  static constexpr bool kGrouped = false;
  using Table = NibbleTable;
  BITTERN_INLINE Table table(const float*) { return signed_nibbles(); }
  using Raw = I;
  BITTERN_INLINE Raw read(const std::uint8_t* p) { return load_bits(p); }
  template <int j>
  BITTERN_INLINE V weight(Raw raw, NibbleTable table) {
    return unsigned_nibble<j>(raw, table);
  }
};

constexpr Index kPrefetchBytes = 1024;

template <class Tile, int j, int MR, int NT>
BITTERN_INLINE void multiply_step(V (&acc)[MR][NT], const typename Tile::Raw (&raw)[NT], const float* const (&x)[MR],
                                  Index k, typename Tile::Table table) {
  V b[MR];
#pragma GCC unroll 8
  for (int m = 0; m < MR; ++m) b[m] = set1(x[m][k + j]);
#pragma GCC unroll 8
  for (int t = 0; t < NT; ++t) {
    const V w = Tile::template weight<j>(raw[t], table);
#pragma GCC unroll 8
    for (int m = 0; m < MR; ++m) acc[m][t] = fma(b[m], w, acc[m][t]);
  }
  if constexpr (j + 1 < Tile::kInputs) multiply_step<Tile, j + 1, MR, NT>(acc, raw, x, k, table);
}

/// Steps that `inputs` inputs take; the last may be part empty.
template <class Tile>
BITTERN_INLINE Index steps_of(Index inputs) {
  return (inputs + Tile::kInputs - 1) / Tile::kInputs;
}

/// acc += x[k_begin, k_begin + steps * kInputs) . steps of each tile, starting at w.
template <class Tile, int MR, int NT>
BITTERN_INLINE void multiply_steps(V (&acc)[MR][NT], const std::uint8_t* w, Index tile_bytes,
                                   const float* const (&x)[MR], Index k, Index steps, typename Tile::Table table) {
  for (Index s = 0; s < steps; ++s) {
    typename Tile::Raw raw[NT];
#pragma GCC unroll 8
    for (int t = 0; t < NT; ++t) {
      raw[t] = Tile::read(w + t * tile_bytes);
      prefetch(w + t * tile_bytes + kPrefetchBytes);
    }
    multiply_step<Tile, 0, MR, NT>(acc, raw, x, k, table);
    w += kStepBytes;
    k += Tile::kInputs;
  }
}

BITTERN_INLINE Index smaller(Index a, Index b) { return a < b ? a : b; }
BITTERN_INLINE Index greater(Index a, Index b) { return a > b ? a : b; }

}  // namespace
}  // namespace bittern::cpu
