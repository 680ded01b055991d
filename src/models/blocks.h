// From a ModelConfig to the options of the shared blocks: what almost every architecture agrees on. An architecture's
// file takes these and changes what it does differently.
#pragma once

#include "models/config.h"
#include "nn/attention.h"
#include "nn/gated_mlp.h"
#include "nn/residual.h"

namespace bittern {

nn::AttentionOptions attention_options(const ModelConfig& config, int layer);
nn::GatedMlpOptions mlp_options(const ModelConfig& config);

/// The layer most architectures are: norm, attention, norm, MLP, with the names Llama gave them.
class PreNormLayer {
 public:
  PreNormLayer(const ModelConfig& config, nn::AttentionOptions attention, nn::GatedMlpOptions mlp)
      : input_norm_(config.hidden, config.norm_eps),
        attention_(std::move(attention)),
        post_norm_(config.hidden, config.norm_eps),
        mlp_(std::move(mlp)) {}

  void visit(nn::Scope& scope) {
    scope("input_layernorm", input_norm_);
    scope("self_attn", attention_);
    scope("post_attention_layernorm", post_norm_);
    scope("mlp", mlp_);
  }

  static constexpr int kBranches = 2;
  Tensor branch(int index, nn::Ctx& ctx, nn::Residual& stream) const {
    if (index == 0) return attention_.forward(ctx, stream.norm(input_norm_));
    return mlp_.forward(ctx, stream.norm(post_norm_));
  }

 protected:
  nn::RmsNorm input_norm_;
  nn::Attention attention_;
  nn::RmsNorm post_norm_;
  nn::GatedMlp mlp_;
};

}  // namespace bittern
