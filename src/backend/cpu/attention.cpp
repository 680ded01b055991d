// Planning of attention: tiles of query rows, pieces of their context, and the merging of pieces.
#include "backend/cpu/attention.h"

#include <algorithm>

#include "base/check.h"

namespace bittern::cpu {
namespace {

constexpr Index kChunkTokens = 256;  // or one block, where blocks are larger
constexpr Index kPiecesPerThread = 4;

/// q . (code * scale + shift) = (q * scale) . code + q . shift: writes the first factor, returns the last term.
float fold_keys(const CpuKvPool::StaticHead& p, const float* q, float scale, Index dim, float* to) {
  double constant = 0;
  for (Index d = 0; d < dim; ++d) {
    const float scaled = q[d] * scale;
    constant += double{scaled} * p.k_shift[d];
    to[d] = scaled * p.k_scale[d];
  }
  return static_cast<float>(constant);
}

}  // namespace

/// What every task of one call shares.
struct AttentionRunner::Step {
  const AttentionArgs& args;
  const BatchView& batch;
  const CpuKvPool& kv;
  Index sharing;  // query heads per KV head
  Index chunk_tokens;
  Index state_floats;  // of one piece
  Index worker_floats;
  float* states;
  float* workers;

  const KvGeometry& geometry() const { return kv.geometry(); }
  Index row_state() const { return kStateHead + geometry().padded_dim; }
  /// Token, counted over the batch, of a row of a tile.
  Index token(const Tile& tile, Index r) const {
    return batch.q_start[static_cast<std::size_t>(tile.sequence)] + (tile.row + r) / sharing;
  }
  Index query_head(const Tile& tile, Index r) const { return tile.head * sharing + (tile.row + r) % sharing; }
  Index position(const Tile& tile, Index r) const { return batch.positions[static_cast<std::size_t>(token(tile, r))]; }
  Index first_visible(Index position) const {
    return args.window > 0 ? std::max<Index>(0, position - args.window + 1) : 0;
  }
};

void AttentionRunner::run(const AttentionArgs& args, const BatchView& batch, const CpuKvPool& kv) {
  const KvGeometry& g = kv.geometry();
  Step step{args, batch, kv, args.q.shape[1] / kv.spec().kv_heads, 0, 0, 0, nullptr, nullptr};
  step.chunk_tokens = g.block_tokens * std::max<Index>(1, kChunkTokens / g.block_tokens);
  plan_tiles(step);
  plan_pieces();
  const Index slots = step.chunk_tokens / g.block_tokens * g.groups * 16;
  step.state_floats = kAttendMaxRows * step.row_state();
  step.worker_floats = kAttendMaxRows * (2 * g.padded_dim + slots);
  step.states = states_.get<float>(pieces_.size() * static_cast<std::size_t>(step.state_floats));
  step.workers = workers_.get<float>(static_cast<std::size_t>(pool_.size() * step.worker_floats));

  pool_.parallel_for(static_cast<int>(pieces_.size()), [&](int piece, int worker) {
    run_piece(step, piece, worker);
    const Tile& tile = tiles_[static_cast<std::size_t>(pieces_[static_cast<std::size_t>(piece)].tile)];
    if (tile.pieces == 1) finish_tile(step, tile);
  });
  if (pieces_.size() == tiles_.size()) return;
  pool_.parallel_for(static_cast<int>(tiles_.size()), [&](int tile, int) {
    if (tiles_[static_cast<std::size_t>(tile)].pieces > 1) finish_tile(step, tiles_[static_cast<std::size_t>(tile)]);
  });
}

void AttentionRunner::plan_tiles(const Step& step) {
  tiles_.clear();
  for (int s = 0; s < step.batch.sequences; ++s) {
    const std::size_t i = static_cast<std::size_t>(s);
    const Index rows = (step.batch.q_start[i + 1] - step.batch.q_start[i]) * step.sharing;
    for (int head = 0; head < step.kv.spec().kv_heads; ++head) {
      for (Index row = 0; row < rows; row += kAttendMaxRows) {
        Tile tile{s, head, row, std::min(kAttendMaxRows, rows - row), 0, 0, 0, 0};
        const Index first = step.position(tile, 0), last = step.position(tile, tile.rows - 1);
        BITTERN_CHECK(first <= last && last < step.batch.context[i], "positions {} to {} of {}", first, last,
                      step.batch.context[i]);
        tile.chunk_begin = step.first_visible(first) / step.chunk_tokens;
        tile.chunk_end = last / step.chunk_tokens + 1;
        tiles_.push_back(tile);
      }
    }
  }
}

// With too few tiles to keep every thread busy (decode), the contexts are split too.
void AttentionRunner::plan_pieces() {
  pieces_.clear();
  Index chunks = 0;
  for (const Tile& tile : tiles_) chunks += tile.chunk_end - tile.chunk_begin;
  const Index wanted = kPiecesPerThread * pool_.size();
  const bool split = pool_.size() > 1 && static_cast<Index>(tiles_.size()) < wanted;
  const Index chunks_per_piece = split ? std::max<Index>(1, chunks / wanted) : chunks;
  for (std::size_t t = 0; t < tiles_.size(); ++t) {
    Tile& tile = tiles_[t];
    tile.first_piece = static_cast<Index>(pieces_.size());
    for (Index c = tile.chunk_begin; c < tile.chunk_end; c += chunks_per_piece) {
      pieces_.push_back({static_cast<Index>(t), c, std::min(tile.chunk_end, c + chunks_per_piece)});
    }
    tile.pieces = static_cast<Index>(pieces_.size()) - tile.first_piece;
  }
}

void AttentionRunner::run_piece(const Step& step, Index index, int worker) {
  const Piece& piece = pieces_[static_cast<std::size_t>(index)];
  const Tile& tile = tiles_[static_cast<std::size_t>(piece.tile)];
  const KvGeometry& g = step.geometry();
  float* q = step.workers + worker * step.worker_floats;
  float q_sums[kAttendMaxRows];
  std::int32_t begin[kAttendMaxRows], end[kAttendMaxRows];
  for (Index r = 0; r < tile.rows; ++r) {
    const float* from = step.args.q.row<float>(step.token(tile, r)) + step.query_head(tile, r) * step.args.q.stride[1];
    float* to = q + r * g.padded_dim;
    q_sums[r] = 0;
    if (step.kv.is_static()) {
      q_sums[r] = fold_keys(step.kv.static_head(step.args.layer, tile.head), from, step.args.scale, g.head_dim, to);
    } else {
      for (Index d = 0; d < g.head_dim; ++d) q_sums[r] += to[d] = from[d] * step.args.scale;
    }
    std::fill(to + g.head_dim, to + g.padded_dim, 0.0f);
    const Index position = step.position(tile, r);
    begin[r] = static_cast<std::int32_t>(step.first_visible(position));
    end[r] = static_cast<std::int32_t>(position + 1);
  }
  AttendArgs a{};
  a.kv = g;
  a.layer = step.kv.data() + step.kv.layer_offset(step.args.layer);
  a.block_stride = step.kv.block_stride();
  a.head_offset = tile.head * g.head_bytes;
  a.blocks = step.batch.block_tables.data() + Index{tile.sequence} * step.batch.max_blocks;
  a.chunk_tokens = step.chunk_tokens;
  a.chunk_begin = piece.chunk_begin;
  a.chunk_end = piece.chunk_end;
  a.rows = tile.rows;
  a.q = q;
  a.q_sums = q_sums;
  a.begin = begin;
  a.end = end;
  a.softcap = step.args.softcap;
  a.state = step.states + index * step.state_floats;
  a.partial = q + kAttendMaxRows * g.padded_dim;
  a.scores = a.partial + kAttendMaxRows * g.padded_dim;
  table_.attend.attend(&a);
}

void AttentionRunner::finish_tile(const Step& step, const Tile& tile) {
  float* state = step.states + tile.first_piece * step.state_floats;
  const KvGeometry& g = step.geometry();
  for (Index p = 1; p < tile.pieces; ++p) {
    table_.attend.merge(state, state + p * step.state_floats, tile.rows, g.padded_dim);
  }
  for (Index r = 0; r < tile.rows; ++r) {
    float* out = step.args.out.row<float>(step.token(tile, r)) + step.query_head(tile, r) * step.args.out.stride[1];
    table_.attend.finish(out, state + r * step.row_state(), g.head_dim);
    if (!step.kv.is_static()) continue;
    const CpuKvPool::StaticHead p = step.kv.static_head(step.args.layer, tile.head);
    for (Index d = 0; d < g.head_dim; ++d) out[d] = out[d] * p.v_scale[d] + p.v_shift[d];
  }
}

}  // namespace bittern::cpu
