// Qwen2 and Qwen2.5: Llama with biases on q, k and v, and a sliding window in the upper layers where it is switched on.
#include "models/registry.h"

namespace bittern {
namespace {

struct Qwen2Layer : PreNormLayer {
  Qwen2Layer(const ModelConfig& config, int layer)
      : PreNormLayer(config, attention(config, layer), mlp_options(config)) {}

  static nn::AttentionOptions attention(const ModelConfig& config, int layer) {
    nn::AttentionOptions options = attention_options(config, layer);
    options.qkv_bias = true;
    return options;
  }
};

}  // namespace

std::unique_ptr<Model> make_qwen2(ModelConfig config) {
  use_window_in_upper_layers(config);
  return std::make_unique<Decoder<Qwen2Layer>>(std::move(config));
}

}  // namespace bittern
