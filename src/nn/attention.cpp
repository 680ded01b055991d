// Attention: project, rotate and store, attend, project back.
#include "nn/attention.h"

#include "nn/probe.h"

namespace bittern::nn {
namespace {

// Row order that turns [q heads of the group | k | v] per KV head into [all q | all k | all v].
std::vector<std::int64_t> ungroup_rows(const AttentionOptions& o) {
  const std::int64_t dim = o.head_dim, per_group = o.heads / o.kv_heads;
  std::vector<std::int64_t> order;
  auto take_heads = [&](std::int64_t first, std::int64_t count) {
    for (std::int64_t group = 0; group < o.kv_heads; ++group) {
      const std::int64_t begin = (group * (per_group + 2) + first) * dim;
      for (std::int64_t row = 0; row < count * dim; ++row) order.push_back(begin + row);
    }
  };
  take_heads(0, per_group);
  take_heads(per_group, 1);
  take_heads(per_group + 1, 1);
  return order;
}

}  // namespace

Attention::Attention(AttentionOptions options)
    : options_(std::move(options)), out_(q_width(), options_.hidden, options_.out_bias) {
  const bool bias = options_.qkv_bias;
  if (options_.fused_name.empty()) {
    qkv_.emplace_back(options_.hidden, q_width(), bias);
    qkv_.emplace_back(options_.hidden, kv_width(), bias);
    qkv_.emplace_back(options_.hidden, kv_width(), bias);
  } else {
    qkv_.emplace_back(options_.hidden, q_width() + 2 * kv_width(), bias);
    if (options_.fused_by_group) qkv_[0].set_row_order(ungroup_rows(options_));
  }
  if (options_.qk_norm) {
    q_norm_ = std::make_unique<RmsNorm>(options_.head_dim, options_.norm_eps);
    k_norm_ = std::make_unique<RmsNorm>(options_.head_dim, options_.norm_eps);
  }
}

void Attention::visit(Scope& scope) {
  if (options_.fused_name.empty()) {
    scope("q_proj", qkv_[0]);
    scope("k_proj", qkv_[1]);
    scope("v_proj", qkv_[2]);
  } else {
    scope(options_.fused_name, qkv_[0]);
  }
  scope(options_.out_name, out_);
  if (q_norm_) {
    scope("q_norm", *q_norm_);
    scope("k_norm", *k_norm_);
  }
}

void Attention::project(Ctx& ctx, Tensor qkv, Tensor x) const {
  std::int64_t column = 0;
  for (const Linear& linear : qkv_) {
    linear.forward(ctx, qkv.columns(column, linear.out()), x);
    column += linear.out();
  }
}

// Row of the linear that makes v, for every channel of the attended values: heads of a group share their KV head.
std::vector<std::int64_t> Attention::value_rows() const {
  const std::int64_t first = options_.fused_name.empty() ? 0 : q_width() + kv_width();
  const std::int64_t dim = options_.head_dim, per_group = options_.heads / options_.kv_heads;
  std::vector<std::int64_t> rows(static_cast<std::size_t>(q_width()));
  for (std::int64_t c = 0; c < q_width(); ++c) {
    rows[static_cast<std::size_t>(c)] = first + c / dim / per_group * dim + c % dim;
  }
  return rows;
}

void Attention::rotate_and_store(Ctx& ctx, Tensor q, Tensor k, Tensor v) const {
  if (q_norm_) {
    q_norm_->forward_in_place(ctx, q);
    k_norm_->forward_in_place(ctx, k);
  }
  RopeStoreArgs store;
  store.q = q;
  store.k = k;
  store.v = v;
  store.cos = ctx.rope_cos;
  store.sin = ctx.rope_sin;
  store.layer = options_.layer - ctx.first_layer;
  ctx.backend.rope_store(store, ctx.batch, ctx.kv);
  if (ctx.probe) ctx.probe->kv(options_.layer, k, v);
}

Tensor Attention::forward(Ctx& ctx, Tensor x) const {
  const AttentionOptions& o = options_;
  Tensor result = ctx.activation(o.hidden);
  const std::int64_t mark = ctx.arena.mark();
  Tensor qkv = ctx.activation(q_width() + 2 * kv_width());
  Tensor attended = ctx.activation(q_width());
  project(ctx, qkv, x);

  Tensor q = qkv.columns(0, q_width()).heads(o.heads, o.head_dim);
  Tensor k = qkv.columns(q_width(), kv_width()).heads(o.kv_heads, o.head_dim);
  Tensor v = qkv.columns(q_width() + kv_width(), kv_width()).heads(o.kv_heads, o.head_dim);
  rotate_and_store(ctx, q, k, v);

  AttentionArgs args;
  args.q = q;
  args.out = attended.heads(o.heads, o.head_dim);
  args.layer = o.layer - ctx.first_layer;
  args.scale = static_cast<float>(o.scale);
  args.softcap = static_cast<float>(o.softcap);
  args.window = o.window;
  ctx.backend.attention(args, ctx.batch, ctx.kv);

  if (ctx.probe) ctx.probe->channel_source(attended, qkv_.back(), value_rows());
  out_.forward(ctx, result, attended);
  ctx.arena.release(mark);
  return result;
}

}  // namespace bittern::nn
