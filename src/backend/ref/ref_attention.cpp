// Attention as the formula reads: scores, optional soft cap, softmax over what the query may see, weighted values.
#include <algorithm>
#include <cmath>

#include "backend/ref/ref_backend.h"
#include "backend/ref/ref_kv.h"
#include "base/check.h"

namespace bittern {
namespace {

// Keys and values of one head of one sequence, dequantized: (tokens, head_dim) each.
struct HeadCache {
  std::int64_t dim;
  std::vector<float> k, v;
};

HeadCache load_head(const RefKvPool& pool, const BatchView& batch, int layer, int sequence, std::int64_t head) {
  const KvSpec& spec = pool.spec();
  const std::int64_t tokens = batch.context[static_cast<std::size_t>(sequence)];
  const std::size_t size = static_cast<std::size_t>(tokens * spec.head_dim);
  HeadCache cache{spec.head_dim, std::vector<float>(size), std::vector<float>(size)};
  for (std::int64_t t = 0; t < tokens; ++t) {
    const std::int32_t block = block_at(batch, spec, sequence, t);
    const std::int64_t slot = t % spec.block_tokens;
    pool.load(layer, block, RefKvPool::Part::k, slot, head, cache.k.data() + t * spec.head_dim);
    pool.load(layer, block, RefKvPool::Part::v, slot, head, cache.v.data() + t * spec.head_dim);
  }
  return cache;
}

double score(const float* q, const float* k, std::int64_t dim, const AttentionArgs& args) {
  double sum = 0;
  for (std::int64_t i = 0; i < dim; ++i) sum += static_cast<double>(q[i]) * k[i];
  sum *= args.scale;
  return args.softcap > 0 ? args.softcap * std::tanh(sum / args.softcap) : sum;
}

// Turns scores into weights that sum to one.
void softmax(std::vector<double>& scores) {
  const double highest = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (double& s : scores) sum += s = std::exp(s - highest);
  for (double& s : scores) s /= sum;
}

// One query at `position` sees the keys [first, position].
void attend(const float* q, std::int64_t position, const HeadCache& cache, const AttentionArgs& args, float* out) {
  const std::int64_t first = args.window > 0 ? std::max<std::int64_t>(0, position - args.window + 1) : 0;
  std::vector<double> weights;
  for (std::int64_t t = first; t <= position; ++t) {
    weights.push_back(score(q, cache.k.data() + t * cache.dim, cache.dim, args));
  }
  softmax(weights);
  for (std::int64_t i = 0; i < cache.dim; ++i) {
    double sum = 0;
    for (std::int64_t t = first; t <= position; ++t) {
      sum += weights[static_cast<std::size_t>(t - first)] * cache.v[static_cast<std::size_t>(t * cache.dim + i)];
    }
    out[i] = static_cast<float>(sum);
  }
}

void check_attention(const AttentionArgs& args, const BatchView& batch, const KvSpec& spec) {
  for (const Tensor& t : {args.q, args.out}) {
    BITTERN_CHECK(t.dtype == DType::f32 && t.rank == 3 && t.rows() == batch.tokens && t.cols() == spec.head_dim,
                  "{} for {} tokens of head_dim {}", t.describe(), batch.tokens, spec.head_dim);
  }
  BITTERN_CHECK(args.q.shape[1] == args.out.shape[1] && args.q.shape[1] % spec.kv_heads == 0);
  BITTERN_CHECK(args.layer >= 0 && args.layer < spec.layers && args.window >= 0);
}

}  // namespace

void RefBackend::attention(const AttentionArgs& args, const BatchView& batch, const KvPool& pool) {
  check_attention(args, batch, pool.spec());
  const std::int64_t queries_per_head = args.q.shape[1] / pool.spec().kv_heads;
  for (int s = 0; s < batch.sequences; ++s) {
    for (std::int64_t h = 0; h < args.q.shape[1]; ++h) {
      const HeadCache cache = load_head(RefKvPool::of(pool), batch, args.layer, s, h / queries_per_head);
      for (int t = batch.q_start[static_cast<std::size_t>(s)]; t < batch.q_start[static_cast<std::size_t>(s) + 1];
           ++t) {
        const std::int64_t position = batch.positions[static_cast<std::size_t>(t)];
        BITTERN_CHECK(position < batch.context[static_cast<std::size_t>(s)]);
        attend(args.q.row<float>(t) + h * args.q.stride[1], position, cache, args,
               args.out.row<float>(t) + h * args.out.stride[1]);
      }
    }
  }
}

}  // namespace bittern
