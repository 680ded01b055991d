// linear_tiles.h: what the linear kernels share beyond tiles.h: headers of groups and the writing of outputs.
#pragma once

#include "backend/cpu/kernels/tiles.h"

namespace bittern::cpu {
namespace {

BITTERN_INLINE Index header_bytes(const LinearArgs& a) { return a.header == GroupHeader::f16_zeros ? 64 : 128; }
BITTERN_INLINE const std::uint8_t* header_zeros(const LinearArgs& a, const std::uint8_t* header) {
  return header + (a.header == GroupHeader::f16_zeros ? 32 : 64);
}
/// Scales of the sixteen outputs, from a group's header.
BITTERN_INLINE V header_scales(const LinearArgs& a, const std::uint8_t* header) {
  return a.header == GroupHeader::f16_zeros ? load_f16(reinterpret_cast<const std::uint16_t*>(header))
                                            : load(reinterpret_cast<const float*>(header));
}

/// What a group's sum of stored * x starts from: (q - zero) = stored + (center - zero), so (center - zero) * sum of x;
/// offsets are added when the group closes.
BITTERN_INLINE V open_group(const LinearArgs& a, const std::uint8_t* header, float x_sum) {
  const V center = set1(a.center);
  if (a.header == GroupHeader::f32_offsets) return mul(center, set1(x_sum));
  return mul(sub(center, load_u8(header_zeros(a, header))), set1(x_sum));
}
/// total + scale * partial, plus offset * sum of x where the format has offsets.
BITTERN_INLINE V close_group(const LinearArgs& a, const std::uint8_t* header, V total, V partial, float x_sum) {
  total = fma(header_scales(a, header), partial, total);
  if (a.header != GroupHeader::f32_offsets) return total;
  return fma(load(reinterpret_cast<const float*>(header + 64)), set1(x_sum), total);
}
BITTERN_INLINE float group_sum(const LinearArgs& a, Index row, Index group) {
  return a.group_sums[row * a.groups + group];
}

/// Writes up to sixteen outputs of one tile, bias added; lanes past the last output are dropped.
BITTERN_INLINE void write_outputs(const LinearArgs& a, Index row, Index tile, V acc) {
  const Index first = tile * kTileOutputs, left = a.outputs - first;
  if (a.bias != nullptr) acc = add(acc, load_upto(a.bias + first, left));
  store_upto(a.out + row * a.out_stride + first, acc, left);
}

}  // namespace
}  // namespace bittern::cpu
