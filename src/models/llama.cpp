// Llama 1 to 3.3 and what copies them: pre-norm, rotary attention, SwiGLU, optional biases.
#include "models/registry.h"

namespace bittern {
namespace {

struct LlamaLayer : PreNormLayer {
  LlamaLayer(const ModelConfig& config, int layer) : PreNormLayer(config, attention(config, layer), mlp(config)) {}

  static nn::AttentionOptions attention(const ModelConfig& config, int layer) {
    nn::AttentionOptions options = attention_options(config, layer);
    options.qkv_bias = options.out_bias = config_flag(config, "attention_bias", false);
    return options;
  }
  static nn::GatedMlpOptions mlp(const ModelConfig& config) {
    nn::GatedMlpOptions options = mlp_options(config);
    options.bias = config_flag(config, "mlp_bias", false);
    return options;
  }
};

}  // namespace

std::unique_ptr<Model> make_llama(ModelConfig config) {
  return std::make_unique<Decoder<LlamaLayer>>(std::move(config));
}

}  // namespace bittern
