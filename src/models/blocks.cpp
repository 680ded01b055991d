// Default block options.
#include "models/blocks.h"

namespace bittern {

nn::AttentionOptions attention_options(const ModelConfig& config, int layer) {
  nn::AttentionOptions options;
  options.layer = layer;
  options.hidden = config.hidden;
  options.heads = config.heads;
  options.kv_heads = config.kv_heads;
  options.head_dim = config.head_dim;
  options.scale = config.attention_scale;
  options.softcap = config.attention_softcap;
  options.window = config.layer_windows[static_cast<std::size_t>(layer)];
  options.norm_eps = config.norm_eps;
  return options;
}

nn::GatedMlpOptions mlp_options(const ModelConfig& config) {
  nn::GatedMlpOptions options;
  options.hidden = config.hidden;
  options.ffn = config.ffn;
  options.activation = config.activation;
  return options;
}

}  // namespace bittern
