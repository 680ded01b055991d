// InternLM3: Llama's layer with separate switches for the biases of q, k, v and of everything else, and dynamic NTK
// rotary scaling by default.
#include "models/registry.h"

namespace bittern {
namespace {

struct InternLm3Layer : PreNormLayer {
  InternLm3Layer(const ModelConfig& config, int layer) : PreNormLayer(config, attention(config, layer), mlp(config)) {}

  static nn::AttentionOptions attention(const ModelConfig& config, int layer) {
    nn::AttentionOptions options = attention_options(config, layer);
    options.qkv_bias = config_flag(config, "qkv_bias", false);
    options.out_bias = config_flag(config, "bias", false);
    return options;
  }
  static nn::GatedMlpOptions mlp(const ModelConfig& config) {
    nn::GatedMlpOptions options = mlp_options(config);
    options.bias = config_flag(config, "bias", false);
    return options;
  }
};

}  // namespace

std::unique_ptr<Model> make_internlm3(ModelConfig config) {
  return std::make_unique<Decoder<InternLm3Layer>>(std::move(config));
}

}  // namespace bittern
