// InternLM2 and 2.5: Llama's layer with q, k and v fused in one linear, grouped per KV head, and names of its own.
#include "models/registry.h"

namespace bittern {
namespace {

class InternLm2Layer {
 public:
  InternLm2Layer(const ModelConfig& config, int layer)
      : attention_norm_(config.hidden, config.norm_eps),
        attention_(attention(config, layer)),
        ffn_norm_(config.hidden, config.norm_eps),
        feed_forward_(mlp(config)) {}

  static DecoderNames names() { return {"model.tok_embeddings", "model.layers", "model.norm", "output"}; }

  static nn::AttentionOptions attention(const ModelConfig& config, int layer) {
    nn::AttentionOptions options = attention_options(config, layer);
    options.qkv_bias = options.out_bias = config_flag(config, "bias", true);
    options.fused_name = "wqkv";
    options.fused_by_group = true;
    options.out_name = "wo";
    return options;
  }
  static nn::GatedMlpOptions mlp(const ModelConfig& config) {
    nn::GatedMlpOptions options = mlp_options(config);
    options.gate_name = "w1";
    options.up_name = "w3";
    options.down_name = "w2";
    return options;
  }

  void visit(nn::Scope& scope) {
    scope("attention_norm", attention_norm_);
    scope("attention", attention_);
    scope("ffn_norm", ffn_norm_);
    scope("feed_forward", feed_forward_);
  }
  static constexpr int kBranches = 2;
  Tensor branch(int index, nn::Ctx& ctx, nn::Residual& stream) const {
    if (index == 0) return attention_.forward(ctx, stream.norm(attention_norm_));
    return feed_forward_.forward(ctx, stream.norm(ffn_norm_));
  }

 private:
  nn::RmsNorm attention_norm_;
  nn::Attention attention_;
  nn::RmsNorm ffn_norm_;
  nn::GatedMlp feed_forward_;
};

}  // namespace

std::unique_ptr<Model> make_internlm2(ModelConfig config) {
  return std::make_unique<Decoder<InternLm2Layer>>(std::move(config));
}

}  // namespace bittern
