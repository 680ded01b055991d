// Linear over 4-bit weights with AVX512-VNNI: x is rounded to 8 bits per group and vpdpbusd multiplies four inputs at a
// time, a fifth of the instructions of the f32 kernels. The sums of a group are exact integers, so a row's result does
// not depend on the batch; but activations are rounded, so this runs only when asked for (BackendOptions::compute).
#include "backend/cpu/kernels/isa.h"
#include "backend/cpu/kernels/linear_tiles.h"

namespace bittern::cpu {
namespace {

constexpr int kInt8Tiles = 4, kInt8Rows = 2;

/// The even and the odd nibbles of a step as bytes 0..15; they are stored as q - 8 in two's complement.
BITTERN_INLINE I even_codes(I raw) {
  return _mm512_and_si512(_mm512_xor_si512(raw, _mm512_set1_epi8(8)), _mm512_set1_epi8(15));
}
BITTERN_INLINE I odd_codes(I raw) { return even_codes(_mm512_srli_epi32(raw, 4)); }

BITTERN_INLINE I broadcast_four(const std::int8_t* p) {
  int four;
  __builtin_memcpy(&four, p, 4);
  return _mm512_set1_epi32(four);
}

/// -zero of the sixteen outputs of a group, as integers.
BITTERN_INLINE I negative_zeros(const LinearArgs& a, const std::uint8_t* header) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(header_zeros(a, header)));
  return _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_cvtepu8_epi32(bytes));
}

template <int MR, int NT>
void int8_block(const LinearArgs& a, Index row, Index tile) {
  const Index stride = (a.inputs + 7) / 8 * 8, header = header_bytes(a);
  const std::uint8_t* w = a.tiles + tile * a.tile_bytes;
  V acc[MR][NT];
#pragma GCC unroll 8
  for (int m = 0; m < MR; ++m) {
#pragma GCC unroll 8
    for (int t = 0; t < NT; ++t) acc[m][t] = zero();
  }
  for (Index g = 0; g < a.groups; ++g) {
    const Index k = g * a.group, steps = (smaller(a.group, a.inputs - k) + 7) / 8;
    I even[MR][NT], odd[MR][NT];
#pragma GCC unroll 8
    for (int t = 0; t < NT; ++t) {
      const I zeros = negative_zeros(a, w + t * a.tile_bytes);
#pragma GCC unroll 8
      for (int m = 0; m < MR; ++m) {
        even[m][t] = _mm512_mullo_epi32(zeros, _mm512_set1_epi32(a.x_sums[(row + m) * a.groups + g]));
        odd[m][t] = _mm512_setzero_si512();
      }
    }
    const std::int8_t* x = a.x_int8 + row * stride + k;
    const std::uint8_t* p = w + header;
    for (Index s = 0; s < steps; ++s, p += kStepBytes, x += 8) {
      I x_even[MR], x_odd[MR];
#pragma GCC unroll 8
      for (int m = 0; m < MR; ++m) {
        x_even[m] = broadcast_four(x + m * stride);
        x_odd[m] = broadcast_four(x + m * stride + 4);
      }
#pragma GCC unroll 8
      for (int t = 0; t < NT; ++t) {
        const I raw = load_bits(p + t * a.tile_bytes);
        prefetch(p + t * a.tile_bytes + kPrefetchBytes);
        const I low = even_codes(raw), high = odd_codes(raw);
#pragma GCC unroll 8
        for (int m = 0; m < MR; ++m) {
          even[m][t] = _mm512_dpbusd_epi32(even[m][t], low, x_even[m]);
          odd[m][t] = _mm512_dpbusd_epi32(odd[m][t], high, x_odd[m]);
        }
      }
    }
#pragma GCC unroll 8
    for (int t = 0; t < NT; ++t) {
      const V scale = header_scales(a, w + t * a.tile_bytes);
#pragma GCC unroll 8
      for (int m = 0; m < MR; ++m) {
        const V sum = _mm512_cvtepi32_ps(_mm512_add_epi32(even[m][t], odd[m][t]));
        acc[m][t] = fma(mul(scale, set1(a.x_scales[(row + m) * a.groups + g])), sum, acc[m][t]);
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
void int8_tiles(const LinearArgs& a, Index tile) {
  for (; tile + NT <= a.tile_end; tile += NT) {
    Index row = a.row_begin;
    for (; row + kInt8Rows <= a.row_end; row += kInt8Rows) int8_block<kInt8Rows, NT>(a, row, tile);
    for (; row < a.row_end; ++row) int8_block<1, NT>(a, row, tile);
  }
  if constexpr (NT > 1) {
    if (tile < a.tile_end) int8_tiles<NT / 2>(a, tile);
  }
}

void int8_w4(const LinearArgs* a) { int8_tiles<kInt8Tiles>(*a, a->tile_begin); }

/// One row to 8 bits, symmetric per group: within every eight inputs the even ones come first, then the odd ones.
void quantize_row(const float* x, Index inputs, Index group, std::int8_t* codes, float* scales, std::int32_t* sums) {
  for (Index k = 0, g = 0; k < inputs; k += group, ++g) {
    const Index end = smaller(k + group, inputs);
    V top = zero();
    for (Index i = k; i < end; i += kLanes) top = max(top, abs(load_upto(x + i, end - i)));
    const float largest = max_lanes(top), inverse = largest > 0 ? 127.0f / largest : 0.0f;
    scales[g] = largest / 127.0f;
    std::int32_t sum = 0;
    for (Index i = k; i < end; i += kLanes) {
      std::int32_t q[kLanes];
      _mm512_storeu_si512(q, _mm512_cvtps_epi32(mul(load_upto(x + i, end - i), set1(inverse))));
      for (Index l = 0; l < smaller(kLanes, (end - i + 7) / 8 * 8); ++l) {
        codes[i + l / 8 * 8 + l % 2 * 4 + l % 8 / 2] = static_cast<std::int8_t>(q[l]);
        sum += q[l];
      }
    }
    sums[g] = sum;
  }
}

}  // namespace

const Int8DotTable* linear_int8dot_table() {
  static const Int8DotTable table = {int8_w4, quantize_row, kInt8Tiles};
  return &table;
}

}  // namespace bittern::cpu
