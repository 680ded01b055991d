// Linear of 8-bit weights with activations rounded to 8 bits per row (W8A8): products and sums of a group are integers,
// so every instruction set gives the same bits, for a row alone and in a batch. Scaling multiplies and adds apart,
// never fused, for the same reason. Compiled once per instruction set, and once more for AVX512-VNNI, where four
// products and their sum are one instruction.
#include "backend/cpu/kernels/isa.h"
#include "backend/cpu/kernels/linear_tiles.h"

namespace bittern::cpu {
namespace {

BITTERN_INLINE I broadcast_four(const std::int8_t* p) {
  std::int32_t four;
  __builtin_memcpy(&four, p, 4);
  return set_bits(four);
}

/// (center - zero) of the sixteen outputs, less what dot_bytes adds to every stored code.
BITTERN_INLINE I group_shift(const LinearArgs& a, const std::uint8_t* header) {
  const std::int32_t center = static_cast<std::int32_t>(a.center) - kDotBias;
  return sub_int(set_bits(center), load_u8_int(header_zeros(a, header)));
}

template <int MR, int NT>
void w8a8_block(const LinearArgs& a, Index row, Index tile) {
  const Index stride = a.x_int8_stride, header = header_bytes(a);
  const std::uint8_t* w = a.tiles + tile * a.tile_bytes;
  V acc[MR][NT];
#pragma GCC unroll 8
  for (int m = 0; m < MR; ++m) {
#pragma GCC unroll 8
    for (int t = 0; t < NT; ++t) acc[m][t] = zero();
  }
  for (Index g = 0; g < a.groups; ++g) {
    const Index k = g * a.group, steps = steps_of<TileW8>(smaller(a.group, a.inputs - k));
    I sum[MR][NT];
#pragma GCC unroll 8
    for (int t = 0; t < NT; ++t) {
      const I shift = group_shift(a, w + t * a.tile_bytes);
#pragma GCC unroll 8
      for (int m = 0; m < MR; ++m) sum[m][t] = mul_int(shift, set_bits(a.x_sums[(row + m) * a.groups + g]));
    }
    const std::int8_t* x = a.x_int8 + row * stride + k;
    const std::uint8_t* p = w + header;
    for (Index s = 0; s < steps; ++s, p += kStepBytes, x += 4) {
      I four[MR];
#pragma GCC unroll 8
      for (int m = 0; m < MR; ++m) four[m] = broadcast_four(x + m * stride);
#pragma GCC unroll 8
      for (int t = 0; t < NT; ++t) {
        const I codes = load_bits(p + t * a.tile_bytes);
        prefetch(p + t * a.tile_bytes + kPrefetchBytes);
#pragma GCC unroll 8
        for (int m = 0; m < MR; ++m) sum[m][t] = dot_bytes(sum[m][t], codes, four[m]);
      }
    }
#pragma GCC unroll 8
    for (int t = 0; t < NT; ++t) {
      const V scale = header_scales(a, w + t * a.tile_bytes);
#pragma GCC unroll 8
      for (int m = 0; m < MR; ++m) {
        acc[m][t] = add(acc[m][t], mul(mul(scale, set1(a.x_scales[row + m])), to_float(sum[m][t])));
      }
    }
    w += header + steps * kStepBytes;
  }
#pragma GCC unroll 8
  for (int m = 0; m < MR; ++m) {
#pragma GCC unroll 8
    for (int t = 0; t < NT; ++t) write_outputs(a, row + m, tile + t, acc[m][t]);
  }
}

template <int NT>
void w8a8_tiles(const LinearArgs& a, Index tile) {
  for (; tile + NT <= a.tile_end; tile += NT) {
    Index row = a.row_begin;
    for (; row + kDotRows <= a.row_end; row += kDotRows) w8a8_block<kDotRows, NT>(a, row, tile);
    for (; row < a.row_end; ++row) w8a8_block<1, NT>(a, row, tile);
  }
  if constexpr (NT > 1) {
    if (tile < a.tile_end) w8a8_tiles<NT / 2>(a, tile);
  }
}

void run(const LinearArgs* a) { w8a8_tiles<kDotTiles>(*a, a->tile_begin); }

// 0 * v is NaN for an infinity and for a NaN, which no comparison need find.
float round_row(const float* x, Index inputs, std::int8_t* codes) {
  V top = zero(), poison = zero();
  for (Index i = 0; i < inputs; i += kLanes) {
    const V v = load_upto(x + i, inputs - i);
    top = max(top, abs(v));
    poison = add(poison, mul(v, zero()));
  }
  const float largest = max_lanes(top), spoilt = sum_lanes(poison);
  if (spoilt != spoilt || !(largest > kSmallestRounded)) {
    for (Index i = 0; i < inputs; ++i) codes[i] = 0;
    return spoilt;  // NaN or 0
  }
  const V inverse = set1(127.0f / largest);
  for (Index i = 0; i < inputs; i += kLanes) {
    float q[kLanes];
    store(q, round(mul(load_upto(x + i, inputs - i), inverse)));
    for (Index l = 0; l < smaller(kLanes, inputs - i); ++l) codes[i + l] = static_cast<std::int8_t>(q[l]);
  }
  return largest / 127.0f;
}

}  // namespace

const W8A8Table* BITTERN_ISA_NAME(w8a8_table)() {
  static const W8A8Table table = {run, round_row, kDotTiles};
  return &table;
}

}  // namespace bittern::cpu
