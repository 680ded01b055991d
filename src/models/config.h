// ModelConfig: config.json of a Hugging Face checkpoint, read once into plain values with every default made explicit.
// Only facts live here; what an architecture does with them is in its own file. Unknown architectures, rope types and
// activations are refused by name rather than approximated.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "backend/backend.h"
#include "base/json.h"
#include "nn/rope.h"

namespace bittern {

struct ModelConfig {
  std::string architecture;  // "LlamaForCausalLM"
  std::string model_type;    // "llama"
  std::string dtype;         // "bfloat16", as the checkpoint says

  int layers = 0;
  int hidden = 0;
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int rotary_dim = 0;  // partial_rotary_factor * head_dim
  int ffn = 0;
  std::int64_t vocab = 0;
  std::int64_t max_positions = 0;  // context length the checkpoint was made for
  double norm_eps = 1e-6;
  bool tied_embeddings = false;
  Activation activation = Activation::silu;
  nn::RopeConfig rope;

  int window = 0;                  // sliding window of the layers that have one; 0: none
  std::vector<int> layer_windows;  // (layers) window of each layer, 0: full attention

  double attention_scale = 0;    // multiplies q.k; default 1/sqrt(head_dim)
  double attention_softcap = 0;  // Gemma2
  double final_softcap = 0;      // Gemma2
  double embedding_scale = 1;    // Gemma2

  std::vector<std::int32_t> eos_ids;  // config.json, overridden by generation_config.json
  std::int32_t bos_id = -1;

  Json raw;           // the whole of config.json
  Json quantization;  // "quantization_config", or null
};

/// Parses config.json text. Errors name the key, the value found and what is accepted.
ModelConfig parse_config(const Json& config);

}  // namespace bittern
