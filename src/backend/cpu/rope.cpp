// Rotation in place of q and k, then the store of k and v. Tokens are independent, so they are shared among threads.
#include "backend/cpu/rope.h"

#include <algorithm>

#include "base/check.h"

namespace bittern::cpu {
namespace {

constexpr Index kParallelFloats = 1 << 14;  // below this, waking a thread costs more than it saves

void rotate_halves(float* x, const float* cos, const float* sin, Index half) {
  for (Index i = 0; i < half; ++i) {
    const float a = x[i], b = x[i + half];
    x[i] = a * cos[i] - b * sin[i];
    x[i + half] = b * cos[i] + a * sin[i];
  }
}

void rotate_pairs(float* x, const float* cos, const float* sin, Index half) {
  for (Index i = 0; i < half; ++i) {
    const float a = x[2 * i], b = x[2 * i + 1];
    x[2 * i] = a * cos[i] - b * sin[i];
    x[2 * i + 1] = b * cos[i] + a * sin[i];
  }
}

void rotate_token(const Tensor& x, Index token, const RopeStoreArgs& args) {
  const float* cos = args.cos.row<float>(token);
  const float* sin = args.sin.row<float>(token);
  const Index half = args.cos.cols();
  for (Index h = 0; h < x.shape[1]; ++h) {
    float* head = x.row<float>(token) + h * x.stride[1];
    if (args.interleaved) {
      rotate_pairs(head, cos, sin, half);
    } else {
      rotate_halves(head, cos, sin, half);
    }
  }
}

void check(const RopeStoreArgs& args, const BatchView& batch, const KvSpec& spec) {
  for (const Tensor& t : {args.q, args.k, args.v}) {
    BITTERN_CHECK(t.dtype == DType::f32 && t.rank == 3 && t.rows() == batch.tokens && t.cols() == spec.head_dim,
                  "{} for {} tokens of head_dim {}", t.describe(), batch.tokens, spec.head_dim);
  }
  BITTERN_CHECK(args.k.shape[1] == spec.kv_heads && args.v.shape[1] == spec.kv_heads);
  BITTERN_CHECK(args.layer >= 0 && args.layer < spec.layers, "layer {} of {}", args.layer, spec.layers);
  if (args.cos.rank == 0) return;
  BITTERN_CHECK(args.cos.rows() == batch.tokens && args.sin.rows() == batch.tokens &&
                args.sin.cols() == args.cos.cols() && 2 * args.cos.cols() <= spec.head_dim);
}

Index sequence_of(const BatchView& batch, Index token) {
  const auto after = std::upper_bound(batch.q_start.begin(), batch.q_start.end(), static_cast<std::int32_t>(token));
  return after - batch.q_start.begin() - 1;
}

void store_token(const RopeStoreArgs& args, const BatchView& batch, Index token, CpuKvPool& pool) {
  const Index position = batch.positions[static_cast<std::size_t>(token)], tokens = pool.spec().block_tokens;
  BITTERN_CHECK(position >= 0 && position / tokens < batch.max_blocks, "position {} of {} blocks", position,
                batch.max_blocks);
  const Index entry = sequence_of(batch, token) * batch.max_blocks + position / tokens;
  const Index block = batch.block_tables[static_cast<std::size_t>(entry)];
  for (Index h = 0; h < args.k.shape[1]; ++h) {
    pool.store(args.layer, block, position % tokens, h, args.k.row<float>(token) + h * args.k.stride[1],
               args.v.row<float>(token) + h * args.v.stride[1]);
  }
}

}  // namespace

void rope_store(const RopeStoreArgs& args, const BatchView& batch, CpuKvPool& pool, ThreadPool& threads) {
  check(args, batch, pool.spec());
  const auto tokens = [&](Index begin, Index end, int) {
    for (Index t = begin; t < end; ++t) {
      if (args.cos.rank != 0) {
        rotate_token(args.q, t, args);
        rotate_token(args.k, t, args);
      }
      store_token(args, batch, t, pool);
    }
  };
  const Index floats = batch.tokens * (args.q.shape[1] + 2 * args.k.shape[1]) * args.q.cols();
  if (floats < kParallelFloats) return tokens(0, batch.tokens, 0);
  threads.parallel_ranges(batch.tokens, 1, tokens);
}

}  // namespace bittern::cpu
