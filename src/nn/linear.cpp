// Linear, RmsNorm, Embedding: one backend call each.
#include "nn/linear.h"

#include "nn/probe.h"

namespace bittern::nn {

void Linear::bind(std::unique_ptr<PackedWeight> weight, std::unique_ptr<DeviceBuffer> bias) {
  weight_ = std::move(weight);
  bias_ = std::move(bias);
}

std::unique_ptr<PackedWeight> Linear::exchange(std::unique_ptr<PackedWeight> weight) {
  std::swap(weight_, weight);
  return weight;
}

std::int64_t Linear::bytes() const { return (weight_ ? weight_->bytes() : 0) + (bias_ ? bias_->bytes() : 0); }

void Linear::forward(Ctx& ctx, Tensor out, Tensor x) const {
  if (ctx.probe) ctx.probe->linear_input(*this, x);
  ctx.backend.linear(out, x, *weight_, bias_.get());
}

Tensor RmsNorm::forward_in_place(Ctx& ctx, Tensor x) const {
  ctx.backend.rms_norm(x, x, *weight_, eps_);
  return x;
}

Tensor Embedding::forward(Ctx& ctx, float scale) const {
  Tensor out = ctx.activation(width_);
  ctx.backend.embed(out, *table_, ctx.batch.token_ids, scale);
  return out;
}

}  // namespace bittern::nn
