// Gemma 2: norms before and after each branch with weights stored as w of 1 + w, soft caps on attention and logits,
// a sliding window in every other layer, GeGLU, embeddings scaled by sqrt(hidden).
#include <cmath>

#include "models/registry.h"

namespace bittern {
namespace {

class Gemma2Layer {
 public:
  Gemma2Layer(const ModelConfig& config, int layer)
      : input_norm_(norm(config)),
        attention_(attention(config, layer)),
        post_attention_norm_(norm(config)),
        pre_ffn_norm_(norm(config)),
        mlp_(mlp_options(config)),
        post_ffn_norm_(norm(config)) {}

  static nn::RmsNorm norm(const ModelConfig& config) { return {config.hidden, config.norm_eps, 1.0F}; }
  static nn::AttentionOptions attention(const ModelConfig& config, int layer) {
    nn::AttentionOptions options = attention_options(config, layer);
    options.qkv_bias = options.out_bias = config_flag(config, "attention_bias", false);
    return options;
  }

  void visit(nn::Scope& scope) {
    scope("input_layernorm", input_norm_);
    scope("self_attn", attention_);
    scope("post_attention_layernorm", post_attention_norm_);
    scope("pre_feedforward_layernorm", pre_ffn_norm_);
    scope("mlp", mlp_);
    scope("post_feedforward_layernorm", post_ffn_norm_);
  }
  static constexpr int kBranches = 2;
  Tensor branch(int index, nn::Ctx& ctx, nn::Residual& stream) const {
    if (index == 0) {
      return post_attention_norm_.forward_in_place(ctx, attention_.forward(ctx, stream.norm(input_norm_)));
    }
    return post_ffn_norm_.forward_in_place(ctx, mlp_.forward(ctx, stream.norm(pre_ffn_norm_)));
  }

 private:
  nn::RmsNorm input_norm_;
  nn::Attention attention_;
  nn::RmsNorm post_attention_norm_;
  nn::RmsNorm pre_ffn_norm_;
  nn::GatedMlp mlp_;
  nn::RmsNorm post_ffn_norm_;
};

// Gemma2Config's defaults differ from the common ones, and config.json leaves out what equals a default.
void apply_defaults(ModelConfig& config) {
  const Json& raw = config.raw;
  if (!raw.contains("head_dim")) config.head_dim = config.rotary_dim = 256;
  config.tied_embeddings = config_flag(config, "tie_word_embeddings", true);
  config.activation = config_activation(config, "hidden_activation", Activation::gelu_tanh);
  config.attention_scale = 1.0 / std::sqrt(config_number(config, "query_pre_attn_scalar", 256.0));
  config.attention_softcap = config_number(config, "attn_logit_softcapping", 50.0);
  config.final_softcap = config_number(config, "final_logit_softcapping", 30.0);
  config.embedding_scale = std::sqrt(static_cast<double>(config.hidden));
  if (!raw.contains("sliding_window")) config.window = 4096;
  if (raw.contains("layer_types")) return;
  for (std::size_t i = 0; i < config.layer_windows.size(); i += 2) config.layer_windows[i] = config.window;
}

}  // namespace

std::unique_ptr<Model> make_gemma2(ModelConfig config) {
  apply_defaults(config);
  return std::make_unique<Decoder<Gemma2Layer>>(std::move(config), 1.0F);
}

}  // namespace bittern
