// Attention of a few query rows over one KV head of the paged cache. The context is cut into chunks at fixed absolute
// positions; a chunk gives (max, sum, weighted values), and chunks are merged in order, so a row's result is the same
// whether it was computed alone or in a batch, in prefill or in decode, by one task or split over several.
// Keys lie sixteen tokens to a tile (tiles.h) and values as rows; both are decoded in registers. Once per instruction
// set.
#include "backend/cpu/kernels/isa.h"
#include "backend/cpu/kernels/tiles.h"

namespace bittern::cpu {
namespace {

struct KvF32 {
  using K = TileF32;
  static constexpr bool kQuantized = false;
  static constexpr bool kStatic = false;
  BITTERN_INLINE V value(const std::uint8_t* row, Index d, NibbleTable) {
    return load(reinterpret_cast<const float*>(row) + d);
  }
};
struct KvF16 {
  using K = TileF16;
  static constexpr bool kQuantized = false;
  static constexpr bool kStatic = false;
  BITTERN_INLINE V value(const std::uint8_t* row, Index d, NibbleTable) {
    return load_f16(reinterpret_cast<const std::uint16_t*>(row) + d);
  }
};
struct KvBf16 {
  using K = TileBf16;
  static constexpr bool kQuantized = false;
  static constexpr bool kStatic = false;
  BITTERN_INLINE V value(const std::uint8_t* row, Index d, NibbleTable) {
    return load_bf16(reinterpret_cast<const std::uint16_t*>(row) + d);
  }
};
struct KvInt8 {
  using K = TileU8;
  static constexpr bool kQuantized = true;
  static constexpr bool kStatic = false;
  BITTERN_INLINE V value(const std::uint8_t* row, Index d, NibbleTable) { return load_u8(row + d); }
};
struct KvInt8Static : KvInt8 {
  static constexpr bool kQuantized = false;  // no parameters beside the codes
  static constexpr bool kStatic = true;
};
struct KvInt4 {
  using K = TileU4;
  static constexpr bool kQuantized = true;
  static constexpr bool kStatic = false;
  BITTERN_INLINE V value(const std::uint8_t* row, Index d, NibbleTable t) { return load_nibbles(row + d / 2, t); }
};

/// The part of the context a chunk covers, and where its scores lie: every block takes whole groups of 16 slots.
struct Chunk {
  Index begin, end;              // absolute positions visible to some row
  Index block_begin, block_end;  // of the sequence's block table
  Index slot_begin, slot_end;    // of a row of scores, multiples of 16
};

BITTERN_INLINE const std::uint8_t* head_of(const AttendArgs& a, Index block) {
  return a.layer + a.blocks[block] * a.block_stride + a.head_offset;
}
BITTERN_INLINE Index slots_per_block(const AttendArgs& a) { return a.kv.groups * kLanes; }
BITTERN_INLINE Index score_stride(const AttendArgs& a) {
  return a.chunk_tokens / a.kv.block_tokens * slots_per_block(a);
}
BITTERN_INLINE Index first_block(const AttendArgs& a, Index chunk) {
  return chunk * a.chunk_tokens / a.kv.block_tokens;
}
/// Slot, within the chunk, of a token at `position` of block `block`.
BITTERN_INLINE Index slot_of(const AttendArgs& a, Index chunk, Index position) {
  const Index block = position / a.kv.block_tokens;
  return (block - first_block(a, chunk)) * slots_per_block(a) + position % a.kv.block_tokens;
}

BITTERN_INLINE Chunk visible_part(const AttendArgs& a, Index chunk) {
  Chunk c{};
  c.begin = (chunk + 1) * a.chunk_tokens;
  for (Index r = 0; r < a.rows; ++r) {
    const Index begin = greater(a.begin[r], chunk * a.chunk_tokens);
    const Index end = smaller(a.end[r], (chunk + 1) * a.chunk_tokens);
    if (begin >= end) continue;
    c.begin = smaller(c.begin, begin);
    c.end = greater(c.end, end);
  }
  if (c.begin >= c.end) return {};
  c.block_begin = c.begin / a.kv.block_tokens;
  c.block_end = (c.end - 1) / a.kv.block_tokens + 1;
  c.slot_begin = slot_of(a, chunk, c.begin) / kLanes * kLanes;
  c.slot_end = (slot_of(a, chunk, c.end - 1) / kLanes + 1) * kLanes;
  return c;
}

/// Scores of RR rows against NG groups of sixteen keys of one head block; what a row may not see becomes -infinity.
template <class Kv, int RR, int NG>
void score_groups(const AttendArgs& a, const std::uint8_t* head, Index group, Index position, Index row, float* scores,
                  Index stride) {
  using Tile = typename Kv::K;
  V acc[RR][NG];
  const float* q[RR];
#pragma GCC unroll 8
  for (int r = 0; r < RR; ++r) {
    q[r] = a.q + (row + r) * a.kv.padded_dim;
#pragma GCC unroll 8
    for (int g = 0; g < NG; ++g) acc[r][g] = zero();
  }
  multiply_steps<Tile, RR, NG>(acc, head + group * a.kv.k_group_bytes, a.kv.k_group_bytes, q, 0,
                               (a.kv.head_dim + Tile::kInputs - 1) / Tile::kInputs, unsigned_nibbles());
  const float* params = reinterpret_cast<const float*>(head + a.kv.param_offset);
  for (int g = 0; g < NG; ++g) {
    const Index slot = (group + g) * kLanes, in_block = smaller(kLanes, a.kv.block_tokens - slot);
    for (int r = 0; r < RR; ++r) {
      V s = acc[r][g];
      if constexpr (Kv::kQuantized) {
        s = fma(s, load(params + slot), mul(set1(a.q_sums[row + r]), load(params + slots_per_block(a) + slot)));
      }
      if constexpr (Kv::kStatic) s = add(s, set1(a.q_sums[row + r]));
      if (a.softcap != 0) s = mul(set1(a.softcap), tanh(div(s, set1(a.softcap))));
      const Index begin = a.begin[row + r] - position - slot, end = a.end[row + r] - position - slot;
      const M seen = lanes_between(static_cast<int>(greater(begin, 0) < kLanes ? greater(begin, 0) : kLanes),
                                   static_cast<int>(greater(smaller(end, in_block), 0)));
      store(scores + (row + r) * stride + g * kLanes, select(seen, s, set1(-__builtin_inff())));
    }
  }
}

template <class Kv, int RR>
void score_rows(const AttendArgs& a, Index chunk, const Chunk& c, Index row, Index stride) {
  for (Index b = c.block_begin; b < c.block_end; ++b) {
    const std::uint8_t* head = head_of(a, b);
    const Index position = b * a.kv.block_tokens, base = (b - first_block(a, chunk)) * slots_per_block(a);
    Index g = greater(c.slot_begin - base, 0) / kLanes;
    const Index end = smaller(c.slot_end - base, slots_per_block(a)) / kLanes;
    for (; g + 2 <= end; g += 2) {
      score_groups<Kv, RR, 2>(a, head, g, position, row, a.scores + base + g * kLanes, stride);
    }
    if (g < end) score_groups<Kv, RR, 1>(a, head, g, position, row, a.scores + base + g * kLanes, stride);
  }
}

struct RowPart {
  float max, sum, zero_part;  // zero_part: sum of weight * zero point of V
};

/// Scores to weights e^(s - max), in place; for quantized V times its scale.
template <class Kv>
BITTERN_INLINE RowPart soften_row(const AttendArgs& a, Index chunk, const Chunk& c, float* scores) {
  V top = set1(-__builtin_inff());
  for (Index s = c.slot_begin; s < c.slot_end; s += kLanes) top = max(top, load(scores + s));
  const float highest = max_lanes(top);
  V sum = zero(), zeros = zero();
  if (highest == -__builtin_inff()) {  // this row sees nothing of the chunk
    for (Index s = c.slot_begin; s < c.slot_end; s += kLanes) store(scores + s, zero());
    return {highest, 0, 0};
  }
  for (Index s = c.slot_begin; s < c.slot_end; s += kLanes) {
    V p = exp(sub(load(scores + s), set1(highest)));
    sum = add(sum, p);
    if constexpr (Kv::kQuantized) {
      const Index in_chunk = s / slots_per_block(a), slot = s % slots_per_block(a);
      const float* params =
          reinterpret_cast<const float*>(head_of(a, first_block(a, chunk) + in_chunk) + a.kv.param_offset);
      // Slots nobody may see hold whatever was stored there last; a NaN among it must not survive the zero weight.
      const V zero_points = load(params + 3 * slots_per_block(a) + slot);
      zeros = fma(p, select(less(zero(), p), zero_points, zero()), zeros);
      p = mul(p, load(params + 2 * slots_per_block(a) + slot));
    }
    store(scores + s, p);
  }
  return {highest, sum_lanes(sum), sum_lanes(zeros)};
}

/// partial[RR rows][16 NV values from d] = initial + weights . V.
template <class Kv, int RR, int NV>
void weigh_values(const AttendArgs& a, Index chunk, const Chunk& c, Index row, Index d, const RowPart* parts) {
  const Index stride = score_stride(a);
  const NibbleTable table = unsigned_nibbles();
  V acc[RR][NV];
#pragma GCC unroll 8
  for (int r = 0; r < RR; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) acc[r][v] = set1(parts[row + r].zero_part);
  }
  for (Index b = c.block_begin; b < c.block_end; ++b) {
    const Index position = b * a.kv.block_tokens;
    const Index from = greater(c.begin - position, 0), to = smaller(c.end - position, a.kv.block_tokens);
    const std::uint8_t* values = head_of(a, b) + a.kv.v_offset;
    const float* p = a.scores + row * stride + (b - first_block(a, chunk)) * slots_per_block(a);
    for (Index t = from; t < to; ++t) {
      const std::uint8_t* value_row = values + t * a.kv.v_token_bytes;
      V x[NV];
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) x[v] = Kv::value(value_row, d + v * kLanes, table);
#pragma GCC unroll 8
      for (int r = 0; r < RR; ++r) {
        const V w = set1(p[r * stride + t]);
#pragma GCC unroll 8
        for (int v = 0; v < NV; ++v) acc[r][v] = fma(w, x[v], acc[r][v]);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < RR; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) store(a.partial + (row + r) * a.kv.padded_dim + d + v * kLanes, acc[r][v]);
  }
}

template <class Kv, int RR>
void weigh_rows(const AttendArgs& a, Index chunk, const Chunk& c, Index row, const RowPart* parts) {
  Index d = 0;
  for (; d + 4 * kLanes <= a.kv.padded_dim; d += 4 * kLanes) weigh_values<Kv, RR, 4>(a, chunk, c, row, d, parts);
  for (; d < a.kv.padded_dim; d += kLanes) weigh_values<Kv, RR, 1>(a, chunk, c, row, d, parts);
}

/// state = state merged with (max, sum, values).
BITTERN_INLINE void merge_row(float* state, float top, float sum, const float* values, Index dim) {
  if (sum == 0) return;
  float* own = state + kStateHead;
  if (state[1] == 0) {
    state[0] = top;
    state[1] = sum;
    for (Index d = 0; d < dim; d += kLanes) store(own + d, load(values + d));
    return;
  }
  const float highest = top > state[0] ? top : state[0];
  const V keep = exp(set1(state[0] - highest)), take = exp(set1(top - highest));
  const V total = fma(set1(state[1]), keep, mul(set1(sum), take));
  for (Index d = 0; d < dim; d += kLanes) store(own + d, fma(load(own + d), keep, mul(load(values + d), take)));
  float lanes[kLanes];
  store(lanes, total);
  state[0] = highest;
  state[1] = lanes[0];
}

/// The last rows, RR or fewer, all at once: keys and values are decoded once for all of them.
template <class Kv, int RR>
BITTERN_INLINE void score_last_rows(const AttendArgs& a, Index chunk, const Chunk& c, Index row, Index stride) {
  if constexpr (RR > 0) {
    if (a.rows - row == RR) {
      score_rows<Kv, RR>(a, chunk, c, row, stride);
    } else {
      score_last_rows<Kv, RR - 1>(a, chunk, c, row, stride);
    }
  }
}
template <class Kv, int RR>
BITTERN_INLINE void weigh_last_rows(const AttendArgs& a, Index chunk, const Chunk& c, Index row, const RowPart* parts) {
  if constexpr (RR > 0) {
    if (a.rows - row == RR) {
      weigh_rows<Kv, RR>(a, chunk, c, row, parts);
    } else {
      weigh_last_rows<Kv, RR - 1>(a, chunk, c, row, parts);
    }
  }
}

template <class Kv>
void attend_chunk(const AttendArgs& a, Index chunk) {
  const Chunk c = visible_part(a, chunk);
  if (c.begin >= c.end) return;
  const Index stride = score_stride(a);
  constexpr int kScoreRows = kAttendRows, kValueRows = kAttendRows / 2;
  Index r = 0;
  for (; r + kScoreRows <= a.rows; r += kScoreRows) score_rows<Kv, kScoreRows>(a, chunk, c, r, stride);
  score_last_rows<Kv, kScoreRows - 1>(a, chunk, c, r, stride);

  RowPart parts[kAttendMaxRows];
  for (r = 0; r < a.rows; ++r) parts[r] = soften_row<Kv>(a, chunk, c, a.scores + r * stride);

  r = 0;
  for (; r + kValueRows <= a.rows; r += kValueRows) weigh_rows<Kv, kValueRows>(a, chunk, c, r, parts);
  weigh_last_rows<Kv, kValueRows - 1>(a, chunk, c, r, parts);

  const Index dim = a.kv.padded_dim;
  for (r = 0; r < a.rows; ++r) {
    merge_row(a.state + r * (kStateHead + dim), parts[r].max, parts[r].sum, a.partial + r * dim, dim);
  }
}

template <class Kv>
BITTERN_INLINE void attend_chunks(const AttendArgs& a) {
  for (Index r = 0; r < a.rows; ++r) a.state[r * (kStateHead + a.kv.padded_dim) + 1] = 0;  // empty: sum 0
  for (Index chunk = a.chunk_begin; chunk < a.chunk_end; ++chunk) attend_chunk<Kv>(a, chunk);
}

void attend(const AttendArgs* args) {
  switch (args->kv.kind) {
    case KvKind::f32: return attend_chunks<KvF32>(*args);
    case KvKind::f16: return attend_chunks<KvF16>(*args);
    case KvKind::bf16: return attend_chunks<KvBf16>(*args);
    case KvKind::int8: return attend_chunks<KvInt8>(*args);
    case KvKind::int4: return attend_chunks<KvInt4>(*args);
    case KvKind::int8_static: return attend_chunks<KvInt8Static>(*args);
  }
}

void merge(float* into, const float* from, Index rows, Index dim) {
  const Index stride = kStateHead + dim;
  for (Index r = 0; r < rows; ++r) {
    const float* f = from + r * stride;
    merge_row(into + r * stride, f[0], f[1], f + kStateHead, dim);
  }
}

void finish(float* out, const float* state, Index dim) {
  const V inverse = set1(1.0f / state[1]);
  for (Index d = 0; d < dim; d += kLanes) {
    store_upto(out + d, mul(load(state + kStateHead + d), inverse), dim - d);
  }
}

}  // namespace

void BITTERN_ISA_NAME(fill_attention)(AttendTable* table) {
  table->attend = attend;
  table->merge = merge;
  table->finish = finish;
}

}  // namespace bittern::cpu
