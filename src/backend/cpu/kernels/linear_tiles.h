// linear_tiles.h: what the linear kernels share beyond tiles.h: headers of 4-bit groups and the writing of outputs.
#pragma once

#include "backend/cpu/kernels/tiles.h"

namespace bittern::cpu {
namespace {

BITTERN_INLINE Index header_bytes(const LinearArgs& a) { return a.scales_f16 ? kW4HeaderF16 : kW4HeaderF32; }

/// Scales of the sixteen outputs, from a group's header.
BITTERN_INLINE V header_scales(const std::uint8_t* header, bool f16) {
  return f16 ? load_f16(reinterpret_cast<const std::uint16_t*>(header)) : load(reinterpret_cast<const float*>(header));
}
/// 8 - zero, for weights stored as q - 8: (q - zero) = (q - 8) + (8 - zero).
BITTERN_INLINE V header_offsets(const std::uint8_t* header, bool f16) {
  return sub(set1(8.0f), load_u8(header + (f16 ? 32 : 64)));
}

/// Writes up to sixteen outputs of one tile, bias added; lanes past the last output are dropped.
BITTERN_INLINE void write_outputs(const LinearArgs& a, Index row, Index tile, V acc) {
  const Index first = tile * kTileOutputs, left = a.outputs - first;
  if (a.bias != nullptr) acc = add(acc, load_upto(a.bias + first, left));
  store_upto(a.out + row * a.out_stride + first, acc, left);
}

}  // namespace
}  // namespace bittern::cpu
