// Reading config.json. Each value is checked against the range the program can hold, so that a lying file cannot make a
// later product of shapes overflow.
#include "models/config.h"

#include <bittern/error.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "models/registry.h"

namespace bittern {
namespace {

constexpr std::int64_t kMaxWidth = 1 << 20;
constexpr std::int64_t kMaxLayers = 1 << 12;
constexpr std::int64_t kMaxVocab = 1 << 24;
constexpr std::int64_t kMaxPositions = 1 << 30;

[[noreturn]] void bad_key(const std::string& key, const std::string& reason) {
  throw Error(ErrorCode::invalid_checkpoint, "config.json: \"" + key + "\" " + reason);
}

bool present(const Json& json, const char* key) { return json.contains(key) && !json.at(key).is_null(); }

std::int64_t integer(const Json& json, const char* key, std::int64_t low, std::int64_t high) {
  if (!present(json, key)) bad_key(key, "is missing");
  const Json& value = json.at(key);
  if (!value.is_number_integer()) bad_key(key, "must be an integer, not " + value.dump().substr(0, 60));
  // A value above INT64_MAX is stored unsigned and would turn negative.
  const bool too_large = value.is_number_unsigned() && value.get<std::uint64_t>() > static_cast<std::uint64_t>(high);
  if (too_large || value.get<std::int64_t>() < low || value.get<std::int64_t>() > high) {
    bad_key(key, "is " + value.dump() + ", outside " + std::to_string(low) + ".." + std::to_string(high));
  }
  return value.get<std::int64_t>();
}

std::int64_t integer_or(const Json& json, const char* key, std::int64_t fallback, std::int64_t low, std::int64_t high) {
  return present(json, key) ? integer(json, key, low, high) : fallback;
}

double number_or(const Json& json, const char* key, double fallback) {
  if (!present(json, key)) return fallback;
  const Json& value = json.at(key);
  if (!value.is_number() || !std::isfinite(value.get<double>())) bad_key(key, "must be a number");
  return value.get<double>();
}

bool flag_or(const Json& json, const char* key, bool fallback) {
  if (!present(json, key)) return fallback;
  if (!json.at(key).is_boolean()) bad_key(key, "must be true or false");
  return json.at(key).get<bool>();
}

std::string text_or(const Json& json, const char* key, const std::string& fallback) {
  if (!present(json, key)) return fallback;
  if (!json.at(key).is_string()) bad_key(key, "must be a string");
  return json.at(key).get<std::string>();
}

double positive(const char* key, double value) {
  if (!(value > 0)) bad_key(key, "must be greater than 0");
  return value;
}

std::string architecture_of(const Json& json) {
  if (present(json, "architectures") && json.at("architectures").is_array() && !json.at("architectures").empty() &&
      json.at("architectures")[0].is_string()) {
    return json.at("architectures")[0].get<std::string>();
  }
  bad_key("architectures", "must be a list that names the model's class");
}

Activation activation_of(const std::string& key, const std::string& name) {
  struct Row {
    const char* name;
    Activation activation;
  };
  constexpr std::array rows = {Row{"silu", Activation::silu}, Row{"swish", Activation::silu},
                               Row{"gelu_pytorch_tanh", Activation::gelu_tanh}, Row{"gelu_new", Activation::gelu_tanh},
                               Row{"gelu", Activation::gelu_erf}};
  for (const Row& row : rows) {
    if (name == row.name) return row.activation;
  }
  throw Error(ErrorCode::unsupported, "config.json: \"" + key + "\" is '" + name + "', which is not supported",
              "supported: silu, gelu, gelu_new, gelu_pytorch_tanh");
}

std::vector<std::int32_t> token_ids(const Json& json, const char* key) {
  if (!present(json, key)) return {};
  const Json list = json.at(key).is_array() ? json.at(key) : Json::array({json.at(key)});
  std::vector<std::int32_t> ids;
  for (const Json& id : list) {
    if (!id.is_number_integer() || id.get<std::int64_t>() < -1 || id.get<std::int64_t>() >= kMaxVocab) {
      bad_key(key, "must be a token id or a list of them");
    }
    if (id.get<std::int64_t>() >= 0) ids.push_back(id.get<std::int32_t>());
  }
  return ids;
}

// --- rotary scaling ---

using Kind = nn::RopeConfig::Kind;

Kind rope_kind(const std::string& name) {
  struct Row {
    const char* name;
    Kind kind;
  };
  constexpr std::array rows = {Row{"default", Kind::none},    Row{"linear", Kind::linear},
                               Row{"dynamic", Kind::dynamic}, Row{"llama3", Kind::llama3},
                               Row{"yarn", Kind::yarn},       Row{"longrope", Kind::longrope},
                               Row{"su", Kind::longrope}};
  for (const Row& row : rows) {
    if (name == row.name) return row.kind;
  }
  throw Error(ErrorCode::unsupported, "config.json: rope type '" + name + "' is not supported",
              "supported: default, linear, dynamic, llama3, yarn, longrope");
}

std::vector<double> factors(const Json& scaling, const char* key, int rotary_dim) {
  if (!present(scaling, key) || !scaling.at(key).is_array()) bad_key(std::string("rope_scaling.") + key, "is missing");
  std::vector<double> values;
  for (const Json& value : scaling.at(key)) {
    if (!value.is_number()) bad_key(std::string("rope_scaling.") + key, "must be a list of numbers");
    values.push_back(positive(key, value.get<double>()));
  }
  if (values.size() != static_cast<std::size_t>(rotary_dim / 2)) {
    bad_key(std::string("rope_scaling.") + key,
            "must have " + std::to_string(rotary_dim / 2) + " entries, not " + std::to_string(values.size()));
  }
  return values;
}

void read_rope_scaling(const Json& scaling, const ModelConfig& config, nn::RopeConfig& rope) {
  rope.kind = rope_kind(text_or(scaling, "rope_type", text_or(scaling, "type", "default")));
  rope.theta = positive("rope_theta", number_or(scaling, "rope_theta", rope.theta));
  rope.original_max_positions =
      integer_or(scaling, "original_max_position_embeddings", rope.original_max_positions, 1, kMaxPositions);
  // The reference's dynamic scaling starts at the model's own context, whatever else the file says.
  if (rope.kind == Kind::dynamic) rope.original_max_positions = config.max_positions;
  const double stretched = static_cast<double>(config.max_positions) / static_cast<double>(rope.original_max_positions);
  const bool needs_factor = rope.kind == Kind::linear || rope.kind == Kind::dynamic || rope.kind == Kind::llama3;
  if (needs_factor && !present(scaling, "factor")) bad_key("rope_scaling.factor", "is missing");
  rope.factor = positive("rope_scaling.factor", number_or(scaling, "factor", stretched));
  rope.low_freq_factor = number_or(scaling, "low_freq_factor", rope.low_freq_factor);
  rope.high_freq_factor = number_or(scaling, "high_freq_factor", rope.high_freq_factor);
  if (rope.kind == Kind::llama3 && rope.high_freq_factor <= rope.low_freq_factor) {
    bad_key("rope_scaling.high_freq_factor", "must be greater than low_freq_factor");
  }
  rope.beta_fast = positive("rope_scaling.beta_fast", number_or(scaling, "beta_fast", rope.beta_fast));
  rope.beta_slow = positive("rope_scaling.beta_slow", number_or(scaling, "beta_slow", rope.beta_slow));
  rope.mscale = number_or(scaling, "mscale", 0.0);
  rope.mscale_all_dim = number_or(scaling, "mscale_all_dim", 0.0);
  rope.truncate = flag_or(scaling, "truncate", true);
  rope.attention_factor = number_or(scaling, "attention_factor", -1.0);
  if (rope.kind == Kind::longrope) {
    rope.short_factor = factors(scaling, "short_factor", config.rotary_dim);
    rope.long_factor = factors(scaling, "long_factor", config.rotary_dim);
  }
}

void read_rope(const Json& json, ModelConfig& config) {
  config.rope.theta = positive("rope_theta", number_or(json, "rope_theta", 10000.0));
  config.rope.original_max_positions =
      integer_or(json, "original_max_position_embeddings", config.max_positions, 1, kMaxPositions);
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (!present(json, key)) continue;
    if (!json.at(key).is_object()) bad_key(key, "must be an object");
    read_rope_scaling(json.at(key), config, config.rope);
  }
}

// --- windows ---

void read_windows(const Json& json, ModelConfig& config) {
  config.window = static_cast<int>(integer_or(json, "sliding_window", 0, 0, kMaxPositions));
  config.layer_windows.assign(static_cast<std::size_t>(config.layers), 0);
  if (!present(json, "layer_types")) return;
  const Json& types = json.at("layer_types");
  if (!types.is_array() || types.size() != config.layer_windows.size()) {
    bad_key("layer_types", "must be a list with an entry for each of the " + std::to_string(config.layers) + " layers");
  }
  for (std::size_t i = 0; i < types.size(); ++i) {
    if (types[i] == "sliding_attention") {
      if (config.window == 0) bad_key("layer_types", "has sliding layers, but there is no \"sliding_window\"");
      config.layer_windows[i] = config.window;
    } else if (types[i] != "full_attention") {
      throw Error(ErrorCode::unsupported,
                  "config.json: layer type " + types[i].dump().substr(0, 60) + " is not supported",
                  "supported: full_attention, sliding_attention");
    }
  }
}

void read_heads(const Json& json, ModelConfig& config) {
  config.heads = static_cast<int>(integer(json, "num_attention_heads", 1, kMaxWidth));
  config.kv_heads = static_cast<int>(integer_or(json, "num_key_value_heads", config.heads, 1, kMaxWidth));
  if (config.heads % config.kv_heads != 0) {
    bad_key("num_key_value_heads", "is " + std::to_string(config.kv_heads) + ", which does not divide the " +
                                       std::to_string(config.heads) + " attention heads");
  }
  if (!present(json, "head_dim") && config.hidden % config.heads != 0) {
    bad_key("num_attention_heads", "does not divide hidden_size, and there is no \"head_dim\"");
  }
  config.head_dim = static_cast<int>(integer_or(json, "head_dim", config.hidden / config.heads, 1, 4096));
  if (static_cast<std::int64_t>(config.head_dim) * config.heads > kMaxWidth) bad_key("head_dim", "is too large");
  double fraction = number_or(json, "partial_rotary_factor", 1.0);
  if (present(json, "rope_parameters") && json.at("rope_parameters").is_object()) {
    fraction = number_or(json.at("rope_parameters"), "partial_rotary_factor", fraction);  // transformers 5
  }
  if (!(fraction > 0 && fraction <= 1)) bad_key("partial_rotary_factor", "must be in (0, 1]");
  config.rotary_dim = static_cast<int>(config.head_dim * fraction);
  if (config.rotary_dim < 2 || config.rotary_dim % 2 != 0) bad_key("head_dim", "must give an even rotary dimension");
}

}  // namespace

ModelConfig parse_config(const Json& json) {
  if (!json.is_object()) throw Error(ErrorCode::invalid_checkpoint, "config.json: must be an object");
  ModelConfig config;
  config.raw = json;
  config.architecture = architecture_of(json);
  config.model_type = text_or(json, "model_type", "");
  config.dtype = text_or(json, "dtype", text_or(json, "torch_dtype", "float32"));
  config.layers = static_cast<int>(integer(json, "num_hidden_layers", 1, kMaxLayers));
  config.hidden = static_cast<int>(integer(json, "hidden_size", 1, kMaxWidth));
  config.ffn = static_cast<int>(integer(json, "intermediate_size", 1, kMaxWidth));
  config.vocab = integer(json, "vocab_size", 1, kMaxVocab);
  config.max_positions = integer_or(json, "max_position_embeddings", 2048, 1, kMaxPositions);
  config.norm_eps = number_or(json, "rms_norm_eps", 1e-6);
  config.tied_embeddings = flag_or(json, "tie_word_embeddings", false);
  config.activation = activation_of("hidden_act", text_or(json, "hidden_act", "silu"));
  read_heads(json, config);
  read_rope(json, config);
  read_windows(json, config);
  config.attention_scale = default_attention_scale(config);
  config.eos_ids = token_ids(json, "eos_token_id");
  const std::vector<std::int32_t> bos = token_ids(json, "bos_token_id");
  config.bos_id = bos.empty() ? -1 : bos[0];
  if (present(json, "quantization_config")) config.quantization = json.at("quantization_config");
  return config;
}

ModelConfig load_config(const ModelFiles& files) {
  const JsonOptions json_options{.code = ErrorCode::invalid_checkpoint};
  const FileBytes file = files.require("config.json");
  ModelConfig config = parse_config(parse_json(file.text(), file.path, json_options));
  if (const auto generation = files.find("generation_config.json")) {
    const Json json = parse_json(generation->text(), generation->path, json_options);
    if (const auto ids = token_ids(json, "eos_token_id"); !ids.empty()) config.eos_ids = ids;
    if (const auto ids = token_ids(json, "bos_token_id"); !ids.empty()) config.bos_id = ids[0];
  }
  return config;
}

bool config_flag(const ModelConfig& config, const char* key, bool fallback) {
  return flag_or(config.raw, key, fallback);
}

double config_number(const ModelConfig& config, const char* key, double fallback) {
  // An explicit null switches the feature off where the default would switch it on (Gemma2's soft caps).
  if (config.raw.contains(key) && config.raw.at(key).is_null()) return 0;
  return number_or(config.raw, key, fallback);
}

Activation config_activation(const ModelConfig& config, const char* key, Activation fallback) {
  const std::string name = text_or(config.raw, key, "");
  return name.empty() ? fallback : activation_of(key, name);
}

double default_attention_scale(const ModelConfig& config) {
  return 1.0 / std::sqrt(static_cast<double>(config.head_dim));
}

void use_window_in_all_layers(ModelConfig& config) {
  if (present(config.raw, "layer_types")) return;
  std::fill(config.layer_windows.begin(), config.layer_windows.end(), config.window);
}

void use_window_in_upper_layers(ModelConfig& config) {
  if (present(config.raw, "layer_types")) return;
  if (!config_flag(config, "use_sliding_window", false)) return;
  const std::int64_t first = integer_or(config.raw, "max_window_layers", 28, 0, kMaxLayers);
  for (std::int64_t i = first; i < config.layers; ++i)
    config.layer_windows[static_cast<std::size_t>(i)] = config.window;
}

}  // namespace bittern
