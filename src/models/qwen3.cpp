// Qwen3 (dense): Llama with an RMS norm on every q and k head before rotation.
#include "models/registry.h"

namespace bittern {
namespace {

struct Qwen3Layer : PreNormLayer {
  Qwen3Layer(const ModelConfig& config, int layer)
      : PreNormLayer(config, attention(config, layer), mlp_options(config)) {}

  static nn::AttentionOptions attention(const ModelConfig& config, int layer) {
    nn::AttentionOptions options = attention_options(config, layer);
    options.qkv_bias = options.out_bias = config_flag(config, "attention_bias", false);
    options.qk_norm = true;
    return options;
  }
};

}  // namespace

std::unique_ptr<Model> make_qwen3(ModelConfig config) {
  if (!config.raw.contains("head_dim"))
    config.head_dim = config.rotary_dim = 128;  // Qwen3's default, not hidden / heads
  if (!config.raw.contains("head_dim")) config.attention_scale = default_attention_scale(config);
  use_window_in_upper_layers(config);
  return std::make_unique<Decoder<Qwen3Layer>>(std::move(config));
}

}  // namespace bittern
