// GatedMlp: two projections side by side, the gated activation, the projection back.
#include "nn/gated_mlp.h"

#include <numeric>

#include "nn/probe.h"

namespace bittern::nn {

GatedMlp::GatedMlp(GatedMlpOptions options)
    : options_(std::move(options)), down_(options_.ffn, options_.hidden, options_.bias) {
  if (options_.fused_name.empty()) {
    gate_up_.emplace_back(options_.hidden, options_.ffn, options_.bias);
    gate_up_.emplace_back(options_.hidden, options_.ffn, options_.bias);
  } else {
    gate_up_.emplace_back(options_.hidden, 2 * static_cast<std::int64_t>(options_.ffn), options_.bias);
  }
}

void GatedMlp::visit(Scope& scope) {
  if (options_.fused_name.empty()) {
    scope(options_.gate_name, gate_up_[0]);
    scope(options_.up_name, gate_up_[1]);
  } else {
    scope(options_.fused_name, gate_up_[0]);
  }
  scope(options_.down_name, down_);
}

std::vector<std::int64_t> GatedMlp::up_rows() const {
  std::vector<std::int64_t> rows(static_cast<std::size_t>(options_.ffn));
  std::iota(rows.begin(), rows.end(), options_.fused_name.empty() ? 0 : options_.ffn);
  return rows;
}

Tensor GatedMlp::forward(Ctx& ctx, Tensor x) const {
  Tensor result = ctx.activation(options_.hidden);
  const std::int64_t mark = ctx.arena.mark();
  Tensor gate_up = ctx.activation(2 * static_cast<std::int64_t>(options_.ffn));
  Tensor inner = ctx.activation(options_.ffn);
  std::int64_t column = 0;
  for (const Linear& linear : gate_up_) {
    linear.forward(ctx, gate_up.columns(column, linear.out()), x);
    column += linear.out();
  }
  ctx.backend.gated_activation(inner, gate_up.columns(0, options_.ffn), gate_up.columns(options_.ffn, options_.ffn),
                               options_.activation);
  if (ctx.probe) ctx.probe->channel_source(inner, gate_up_.back(), up_rows());
  down_.forward(ctx, result, inner);
  ctx.arena.release(mark);
  return result;
}

}  // namespace bittern::nn
