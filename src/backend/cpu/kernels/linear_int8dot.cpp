// Linear over 4- and 8-bit weights with AVX512-VNNI: x is rounded to 8 bits per group and vpdpbusd multiplies four
// inputs at a time, a fifth of the instructions of the f32 kernels. Weights are decoded in registers, once for up to
// eight rows; for many rows that again costs less than a panel of decoded bytes (docs/performance.md). Sums of a group
// are exact, so a row's bits do not depend on the batch; but activations are rounded, so this runs only when asked for.
#include "backend/cpu/kernels/isa.h"
#include "backend/cpu/kernels/linear_tiles.h"

namespace bittern::cpu {
namespace {

constexpr int kMaxRows = 8, kMaxTiles = 4;

/// A step of nibbles: its even inputs, then its odd ones, as bytes 0..15; they are stored as q - 8 in two's complement.
struct NibbleCodes {
  static constexpr int kInputs = 8, kVectors = 2;
  template <int v>
  BITTERN_INLINE I bytes(I raw) {
    constexpr int kXorThenAnd = 0x28;  // (a ^ b) & c
    return _mm512_ternarylogic_epi32(v == 0 ? raw : _mm512_srli_epi32(raw, 4), _mm512_set1_epi8(8),
                                     _mm512_set1_epi8(15), kXorThenAnd);
  }
};

/// A step of bytes, stored less half their range.
struct ByteCodes {
  static constexpr int kInputs = 4, kVectors = 1;
};
BITTERN_INLINE I unsigned_bytes(I raw, I center) { return _mm512_add_epi8(raw, center); }

template <class Codes, int v>
BITTERN_INLINE I code_bytes(I raw, I center) {
  if constexpr (Codes::kVectors == 2) {
    return NibbleCodes::bytes<v>(raw);
  } else {
    return unsigned_bytes(raw, center);
  }
}

/// What code_bytes adds to bytes to undo their centering.
BITTERN_INLINE I center_bytes(const LinearArgs& a) {
  return _mm512_set1_epi8(static_cast<char>(static_cast<int>(a.center)));
}

BITTERN_INLINE I broadcast_four(const std::int8_t* p) {
  int four;
  __builtin_memcpy(&four, p, 4);
  return _mm512_set1_epi32(four);
}

/// sum += the four products of the bytes of each dword. Written out because GCC 12 copies sums of the intrinsic between
/// registers and the stack in every turn of a loop, which halved the speed.
BITTERN_INLINE void dot_four(I& sum, I codes, I x) { asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(codes), "v"(x)); }

/// The zeros of sixteen outputs in pairs (zero, 128 zero): with split_sum's pair one instruction gives -zero * sum of
/// x.
BITTERN_INLINE I zero_pairs(const LinearArgs& a, const std::uint8_t* header) {
  const I zeros = load_u8_int(header_zeros(a, header));
  return _mm512_or_si512(zeros, _mm512_slli_epi32(zeros, 16 + 7));
}
BITTERN_INLINE std::int32_t split_sum(std::int32_t sum) {
  const std::int32_t less = -sum;
  return (less & 127) | (less >> 7) * 65536;
}
BITTERN_INLINE I open_sum(I pairs, std::int32_t split) {
  return _mm512_dpwssd_epi32(_mm512_setzero_si512(), pairs, _mm512_set1_epi32(split));
}
BITTERN_INLINE V close_sum(V total, V scale, float x_scale, I sum) {
  return fma(mul(scale, set1(x_scale)), to_float(sum), total);
}

/// Adds vector v of a step: NT tiles times MR rows. Chains of additions are kept apart per vector where they are few.
template <class Codes, int v, int MR, int NT, int kChains>
BITTERN_INLINE void multiply_vector(I (&sum)[kChains][MR][NT], const I (&raw)[NT], const std::int8_t* x, Index stride,
                                    I center) {
  I codes[NT];
#pragma GCC unroll 8
  for (int t = 0; t < NT; ++t) codes[t] = code_bytes<Codes, v>(raw[t], center);
#pragma GCC unroll 8
  for (int m = 0; m < MR; ++m) {
    const I four = broadcast_four(x + m * stride + 4 * v);
#pragma GCC unroll 8
    for (int t = 0; t < NT; ++t) dot_four(sum[v % kChains][m][t], codes[t], four);
  }
}

/// Of many rows `out` is larger than the caches, and stores that wait for it would hold up those of spilled sums.
template <int MR, int NT>
BITTERN_INLINE void prefetch_outputs(const LinearArgs& a, Index row, Index tile) {
  for (int m = 0; m < MR; ++m) {
    for (int t = 0; t < NT; ++t) prefetch(a.out + (row + m) * a.out_stride + (tile + t) * kTileOutputs);
  }
}

template <class Codes, int MR, int NT>
void dot_block(const LinearArgs& a, Index row, Index tile) {
  constexpr int kChains = MR * NT <= 8 ? Codes::kVectors : 1;
  const Index stride = a.x_int8_stride, header = header_bytes(a);
  const I center = center_bytes(a);
  const std::uint8_t* w = a.tiles + tile * a.tile_bytes;
  prefetch_outputs<MR, NT>(a, row, tile);
  V total[MR][NT];
#pragma GCC unroll 8
  for (int m = 0; m < MR; ++m) {
#pragma GCC unroll 8
    for (int t = 0; t < NT; ++t) total[m][t] = zero();
  }
  for (Index g = 0; g < a.groups; ++g) {
    const Index k = g * a.group, steps = steps_of<Codes>(smaller(a.group, a.inputs - k));
    I sum[kChains][MR][NT];
#pragma GCC unroll 8
    for (int t = 0; t < NT; ++t) {
      const I pairs = zero_pairs(a, w + t * a.tile_bytes);
#pragma GCC unroll 8
      for (int m = 0; m < MR; ++m) {
        sum[0][m][t] = open_sum(pairs, a.x_sums[(row + m) * a.groups + g]);
        if constexpr (kChains > 1) sum[1][m][t] = _mm512_setzero_si512();
      }
    }
    const std::int8_t* x = a.x_int8 + row * stride + k;
    const std::uint8_t* p = w + header;
    for (Index s = 0; s < steps; ++s, p += kStepBytes, x += Codes::kInputs) {
      I raw[NT];
#pragma GCC unroll 8
      for (int t = 0; t < NT; ++t) {
        raw[t] = load_bits(p + t * a.tile_bytes);
        prefetch(p + t * a.tile_bytes + kPrefetchBytes);
      }
      multiply_vector<Codes, 0, MR, NT, kChains>(sum, raw, x, stride, center);
      if constexpr (Codes::kVectors > 1) multiply_vector<Codes, 1, MR, NT, kChains>(sum, raw, x, stride, center);
    }
#pragma GCC unroll 8
    for (int t = 0; t < NT; ++t) {
      const V scale = header_scales(a, w + t * a.tile_bytes);
#pragma GCC unroll 8
      for (int m = 0; m < MR; ++m) {
        I all = sum[0][m][t];
        if constexpr (kChains > 1) all = add_int(all, sum[1][m][t]);
        total[m][t] = close_sum(total[m][t], scale, a.x_scales[(row + m) * a.groups + g], all);
      }
    }
    w += header + steps * kStepBytes;
  }
#pragma GCC unroll 8
  for (int m = 0; m < MR; ++m) {
#pragma GCC unroll 8
    for (int t = 0; t < NT; ++t) write_outputs(a, row + m, tile + t, total[m][t]);
  }
}

template <class Codes, int MR, int NT>
void dot_tiles(const LinearArgs& a, Index row, Index tile) {
  for (; tile + NT <= a.tile_end; tile += NT) dot_block<Codes, MR, NT>(a, row, tile);
  if constexpr (NT > 1) {
    if (tile < a.tile_end) dot_tiles<Codes, MR, NT / 2>(a, row, tile);
  }
}

/// Registers hold 16 sums and as many totals, beside the codes.
template <class Codes, int MR>
void dot_rows(const LinearArgs& a, Index row, Index rows) {
  if (rows == MR) return dot_tiles < Codes, MR, MR <= 2 ? kMaxTiles : 2 > (a, row, a.tile_begin);
  if constexpr (MR > 1) dot_rows<Codes, MR - 1>(a, row, rows);
}

template <class Codes>
void dot(const LinearArgs* a) {
  const Index rows = a->row_end - a->row_begin, blocks = (rows + kMaxRows - 1) / kMaxRows;
  for (Index b = 0; b < blocks; ++b) {  // blocks differ by one row at most
    const Index begin = rows * b / blocks, end = rows * (b + 1) / blocks;
    dot_rows<Codes, kMaxRows>(*a, a->row_begin + begin, end - begin);
  }
}

/// Sixteen integers in the order in which the kernels read them: as they are, or of every eight the even ones first.
BITTERN_INLINE I in_reading_order(I q, bool nibbles) {
  const I even_first = _mm512_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15);
  return nibbles ? _mm512_permutexvar_epi32(even_first, q) : q;
}

/// Largest |x| of x[0, n); NaN when one is not finite (0 * v is NaN for an infinity and for a NaN).
BITTERN_INLINE float largest_of(const float* x, Index n) {
  V top = zero(), poison = zero();
  for (Index i = 0; i < n; i += kLanes) {
    const V v = load_upto(x + i, n - i);
    top = max(top, abs(v));
    poison = fma(v, zero(), poison);
  }
  return max_lanes(top) + sum_lanes(poison);
}

// A group that is not finite becomes zeros and a scale of NaN.
void round_row(const float* x, Index inputs, Index group, bool nibbles, std::int8_t* codes, float* scales,
               std::int32_t* sums) {
  const Index step = nibbles ? NibbleCodes::kInputs : ByteCodes::kInputs;
  for (Index k = 0, g = 0; k < inputs; k += group, ++g) {
    const Index end = smaller(k + group, inputs), padded = k + (end - k + step - 1) / step * step;
    const float largest = largest_of(x + k, end - k);
    const V inverse = set1(largest > kSmallestRounded ? 127.0f / largest : 0.0f);
    I sum = _mm512_setzero_si512();
    for (Index i = k; i < end; i += kLanes) {
      I q = _mm512_setzero_si512();
      if (largest > kSmallestRounded) q = _mm512_cvtps_epi32(mul(load_upto(x + i, end - i), inverse));
      sum = add_int(sum, q);
      _mm_mask_storeu_epi8(codes + i, first_lanes(static_cast<int>(smaller(kLanes, padded - i))),
                           _mm512_cvtepi32_epi8(in_reading_order(q, nibbles)));
    }
    scales[g] = largest > kSmallestRounded || largest != largest ? largest / 127.0f : 0.0f;
    sums[g] = split_sum(_mm512_reduce_add_epi32(sum));
  }
}

}  // namespace

const Int8DotTable* linear_int8dot_table() {
  static const Int8DotTable table = {dot<NibbleCodes>, dot<ByteCodes>, round_row, kMaxTiles};
  return &table;
}

}  // namespace bittern::cpu
