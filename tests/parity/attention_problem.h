// A step of attention over paged sequences: the past is stored first, then the fresh tokens, then these attend.
#pragma once

#include "parity/problems.h"

namespace bittern::parity {

/// Keys, values and queries of all sequences from their first token on, and how to run any part of them on a backend.
class AttentionProblem {
 public:
  AttentionProblem(const AttentionCase& shape, KvFormat format, std::uint64_t seed = 1) : c(shape), kv_format(format) {
    Random random(seed * 7919 + static_cast<std::uint64_t>(c.q_heads * 131 + c.head_dim));
    for (const SequenceCase& s : c.sequences) {
      max_tokens = std::max(max_tokens, s.past + s.fresh);
      const std::int64_t tokens = s.past + s.fresh;
      q.push_back(Matrix::random(tokens, c.q_heads * c.head_dim, false, random));
      k.push_back(Matrix::random(tokens, c.kv_heads * c.head_dim, false, random));
      v.push_back(Matrix::random(tokens, c.kv_heads * c.head_dim, false, random));
    }
    if (kv_format == KvFormat::int8_static) static_params = random_params(random);
    for (int p = 0; p < max_tokens; ++p) {
      for (int i = 0; i < c.rotary_dim / 2; ++i) {
        const float angle =
            static_cast<float>(p) * std::pow(100.0f, -2.0f * static_cast<float>(i) / static_cast<float>(c.rotary_dim));
        cos_table.push_back(std::cos(angle));
        sin_table.push_back(std::sin(angle));
      }
    }
  }

  KvSpec spec() const { return {kv_format, 2, c.kv_heads, c.head_dim, c.block_tokens, static_params}; }
  int sequence_count() const { return static_cast<int>(c.sequences.size()); }
  /// One scale and zero per channel, all different and tight enough that some numbers are clamped; one channel in
  /// sixteen is constant (scale 0).
  std::shared_ptr<const KvStaticParams> random_params(Random& random) const {
    auto p = std::make_shared<KvStaticParams>();
    p->layers = 2;
    p->kv_heads = c.kv_heads;
    p->head_dim = c.head_dim;
    for (std::vector<float>* scales : {&p->k_scale, &p->v_scale}) {
      for (std::size_t i = 0; i < p->channels(); ++i) {
        scales->push_back(random.below(16) == 0 ? 0.0f : (2.0f + 3.0f * random.uniform()) * 2 / 255);
      }
    }
    for (std::vector<float>* zeros : {&p->k_zero, &p->v_zero}) {
      for (std::size_t i = 0; i < p->channels(); ++i) zeros->push_back(random.uniform() - 0.5f);
    }
    return p;
  }
  std::unique_ptr<KvPool> make_pool(Backend& backend) const {
    return backend.make_kv_pool(spec(), Step::pool_blocks(c.block_tokens, sequence_count(), max_tokens));
  }

  std::vector<int> pasts() const {
    std::vector<int> list;
    for (const SequenceCase& s : c.sequences) list.push_back(s.past);
    return list;
  }
  std::vector<int> ends() const {
    std::vector<int> list;
    for (const SequenceCase& s : c.sequences) list.push_back(s.past + s.fresh);
    return list;
  }
  Step step(const std::vector<int>& begin, const std::vector<int>& end) const {
    return Step(c.block_tokens, begin, end, sequence_count(), max_tokens);
  }
  Step step_alone(int s, int begin, int end) const {
    return Step::alone(c.block_tokens, s, begin, end, sequence_count(), max_tokens);
  }

  /// The fused projections of a step, as a model lays them out: q, k and v are slices of one row.
  struct Qkv {
    Matrix rows;
    Tensor q, k, v;
  };

  /// Runs one step: stores its tokens and returns what attention gives, (tokens, q_heads * head_dim).
  /// `which` names the sequences the step is made of, in order.
  Matrix run(Backend& backend, KvPool& pool, const Step& step, const std::vector<int>& which,
             Qkv* rotated = nullptr) const {
    const BatchView batch = step.view();
    Qkv qkv = gather(batch, which);
    store(backend, pool, batch, qkv);
    Matrix out(batch.tokens, c.q_heads * c.head_dim, true);
    attend(backend, pool, batch, qkv.q, out);
    if (rotated) *rotated = std::move(qkv);
    return out;
  }
  /// Stores the tokens of a step without attending.
  void store_step(Backend& backend, KvPool& pool, const Step& step) const {
    if (step.view().tokens > 0) store(backend, pool, step.view(), gather(step.view(), everyone()));
  }
  /// Stores the past, then runs the fresh tokens.
  Matrix run_all(Backend& backend, KvPool& pool, Qkv* rotated = nullptr) const {
    store_step(backend, pool, step(std::vector<int>(c.sequences.size(), 0), pasts()));
    return run(backend, pool, step(pasts(), ends()), everyone(), rotated);
  }
  std::vector<int> everyone() const {
    std::vector<int> which(c.sequences.size());
    std::iota(which.begin(), which.end(), 0);
    return which;
  }

  void attend(Backend& backend, const KvPool& pool, const BatchView& batch, Tensor queries, Matrix& out) const {
    AttentionArgs args;
    args.q = queries;
    args.out = out.tensor().heads(c.q_heads, c.head_dim);
    args.layer = 1;
    args.scale = 1.0f / std::sqrt(static_cast<float>(c.head_dim));
    args.softcap = c.softcap;
    args.window = c.window;
    backend.attention(args, batch, pool);
    backend.synchronize();
  }

  /// The step's rows, gathered from the sequences.
  Qkv gather(const BatchView& batch, const std::vector<int>& which) const {
    const std::int64_t qw = c.q_heads * c.head_dim, kw = c.kv_heads * c.head_dim;
    Qkv qkv{Matrix(batch.tokens, qw + 2 * kw, true), {}, {}, {}};
    for (int s = 0; s < batch.sequences; ++s) {
      const auto sequence = static_cast<std::size_t>(which[static_cast<std::size_t>(s)]);
      for (int t = batch.q_start[static_cast<std::size_t>(s)]; t < batch.q_start[static_cast<std::size_t>(s) + 1];
           ++t) {
        const int p = batch.positions[static_cast<std::size_t>(t)];
        for (std::int64_t i = 0; i < qw; ++i) qkv.rows.at(t, i) = q[sequence].at(p, i);
        for (std::int64_t i = 0; i < kw; ++i) qkv.rows.at(t, qw + i) = k[sequence].at(p, i);
        for (std::int64_t i = 0; i < kw; ++i) qkv.rows.at(t, qw + kw + i) = v[sequence].at(p, i);
      }
    }
    const Tensor all = qkv.rows.tensor();
    qkv.q = all.columns(0, qw).heads(c.q_heads, c.head_dim);
    qkv.k = all.columns(qw, kw).heads(c.kv_heads, c.head_dim);
    qkv.v = all.columns(qw + kw, kw).heads(c.kv_heads, c.head_dim);
    return qkv;
  }

  /// rope_store of those rows; q and k are rotated in place.
  void store(Backend& backend, KvPool& pool, const BatchView& batch, const Qkv& qkv) const {
    const std::size_t half = static_cast<std::size_t>(c.rotary_dim / 2);
    std::vector<float> cos, sin;
    for (const std::int32_t p : batch.positions) {
      const auto at = static_cast<std::ptrdiff_t>(static_cast<std::size_t>(p) * half),
                 end = at + static_cast<std::ptrdiff_t>(half);
      cos.insert(cos.end(), cos_table.begin() + at, cos_table.begin() + end);
      sin.insert(sin.end(), sin_table.begin() + at, sin_table.begin() + end);
    }
    RopeStoreArgs args;
    args.q = qkv.q;
    args.k = qkv.k;
    args.v = qkv.v;
    if (half > 0) {
      args.cos = Tensor::of(cos.data(), DType::f32, batch.tokens, static_cast<std::int64_t>(half));
      args.sin = Tensor::of(sin.data(), DType::f32, batch.tokens, static_cast<std::int64_t>(half));
    }
    args.interleaved = c.interleaved;
    args.layer = 1;
    backend.rope_store(args, batch, pool);
    backend.synchronize();
  }

  /// What the cache holds of one sequence: f32 (tokens, kv_heads * head_dim) of keys and of values.
  std::pair<Matrix, Matrix> cached(const Backend& backend, const KvPool& pool, int s, int tokens) const {
    std::vector<float> keys(static_cast<std::size_t>(tokens * c.kv_heads * c.head_dim)), values(keys.size());
    const Step whole = step_alone(s, 0, tokens);
    backend.read_kv(pool, 1, whole.table(0), tokens, keys.data(), values.data());
    Matrix k_rows(tokens, c.kv_heads * c.head_dim, false), v_rows = k_rows;
    std::copy(keys.begin(), keys.end(), k_rows.tensor().as<float>());
    std::copy(values.begin(), values.end(), v_rows.tensor().as<float>());
    return {k_rows, v_rows};
  }

  AttentionCase c;
  KvFormat kv_format;
  std::shared_ptr<const KvStaticParams> static_params;
  int max_tokens = 0;
  std::vector<Matrix> q, k, v;  // per sequence, (tokens, heads * head_dim)
  std::vector<float> cos_table, sin_table;
};

}  // namespace bittern::parity
