// Phi-3 and Phi-3.5 mini: Llama's layer with q, k, v and gate, up fused into one linear each, a sliding window in all
// layers, LongRoPE in the long-context variants.
#include "models/registry.h"

namespace bittern {
namespace {

struct Phi3Layer : PreNormLayer {
  Phi3Layer(const ModelConfig& config, int layer) : PreNormLayer(config, attention(config, layer), mlp(config)) {}

  static nn::AttentionOptions attention(const ModelConfig& config, int layer) {
    nn::AttentionOptions options = attention_options(config, layer);
    options.qkv_bias = options.out_bias = config_flag(config, "attention_bias", false);
    options.fused_name = "qkv_proj";
    return options;
  }
  static nn::GatedMlpOptions mlp(const ModelConfig& config) {
    nn::GatedMlpOptions options = mlp_options(config);
    options.fused_name = "gate_up_proj";
    return options;
  }
};

}  // namespace

std::unique_ptr<Model> make_phi3(ModelConfig config) {
  use_window_in_all_layers(config);
  return std::make_unique<Decoder<Phi3Layer>>(std::move(config));
}

}  // namespace bittern
