// GatedMlp: two projections side by side, the gated activation, the projection back.
#include "nn/gated_mlp.h"

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
  down_.forward(ctx, result, inner);
  ctx.arena.release(mark);
  return result;
}

}  // namespace bittern::nn
