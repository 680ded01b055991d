// Facts of the tile layouts (kernels/kernels.h, TileKind) that packing, decoding and saving share. A change here is a
// change of layout: see CpuWeight::layout().
#pragma once

#include "backend/cpu/kernels/kernels.h"

namespace bittern::cpu {

/// e4m3 tiles decode to 1/256 of the number, so their scales are that much larger.
inline constexpr float kE4m3Factor = 256.0f;

inline bool is_grouped(TileKind kind) { return kind >= TileKind::w4; }

/// Where, in a dense tile, input k of lane `lane` lies, counted in elements.
inline Index dense_offset(TileKind kind, Index k, Index lane) {
  if (kind == TileKind::bf16) return (k / 2) * 32 + lane * 2 + k % 2;
  return k * kTileOutputs + lane;
}

}  // namespace bittern::cpu
