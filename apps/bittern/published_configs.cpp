// Shapes as their publishers state them.
#include "published_configs.h"

#include <bittern/error.h>

#include <filesystem>

#include "base/json.h"
#include "base/strings.h"

namespace bittern::cli {
namespace {

constexpr std::string_view kQwen25_05B = R"({
  "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "torch_dtype": "bfloat16", "hidden_act": "silu",
  "hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
  "intermediate_size": 4864, "vocab_size": 151936, "max_position_embeddings": 32768, "rms_norm_eps": 1e-6,
  "rope_theta": 1000000.0, "tie_word_embeddings": true, "eos_token_id": 151643, "bos_token_id": 151643})";

constexpr std::string_view kLlama32_1B = R"({
  "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16", "hidden_act": "silu",
  "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64,
  "intermediate_size": 8192, "vocab_size": 128256, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5,
  "rope_theta": 500000.0, "tie_word_embeddings": true, "eos_token_id": 128001, "bos_token_id": 128000,
  "rope_scaling": {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192}})";

constexpr std::string_view kLlama2_7B = R"({
  "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "float16", "hidden_act": "silu",
  "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
  "intermediate_size": 11008, "vocab_size": 32000, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
  "rope_theta": 10000.0, "tie_word_embeddings": false, "eos_token_id": 2, "bos_token_id": 1})";

std::string names() {
  std::vector<std::string> list;
  for (const PublishedConfig& config : published_configs()) list.emplace_back(config.name);
  return join(list, ", ");
}

}  // namespace

const std::vector<PublishedConfig>& published_configs() {
  static const std::vector<PublishedConfig> configs = {
      {"qwen2.5-0.5b", kQwen25_05B}, {"llama-3.2-1b", kLlama32_1B}, {"llama-2-7b", kLlama2_7B}};
  return configs;
}

ModelConfig config_by_name_or_file(const std::string& which) {
  for (const PublishedConfig& config : published_configs()) {
    if (which == config.name) return parse_config(parse_json(config.json, which));
  }
  if (!std::filesystem::is_regular_file(which)) {
    throw Error(ErrorCode::not_found, "there is no configuration '" + which + "'",
                "give the path of a config.json, or one of " + names());
  }
  return parse_config(read_json_file(which));
}

}  // namespace bittern::cli
