// Mistral 7B and its dense successors: Llama without biases, every layer with the same sliding window when there is
// one.
#include "models/registry.h"

namespace bittern {
namespace {

struct MistralLayer : PreNormLayer {
  MistralLayer(const ModelConfig& config, int layer)
      : PreNormLayer(config, attention_options(config, layer), mlp_options(config)) {}
};

}  // namespace

std::unique_ptr<Model> make_mistral(ModelConfig config) {
  if (!config.raw.contains("sliding_window")) config.window = 4096;  // MistralConfig's default; null means none
  use_window_in_all_layers(config);
  return std::make_unique<Decoder<MistralLayer>>(std::move(config));
}

}  // namespace bittern
