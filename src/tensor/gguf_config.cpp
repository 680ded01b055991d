// One function per part of config.json. Values that GGUF keeps as tensors (rope factors) are read here too, so that the
// model sees them as configuration.
#include "tensor/gguf_config.h"

#include <bittern/error.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "tensor/gguf_blocks.h"
#include "tensor/quote_name.h"

namespace bittern {
namespace {

constexpr std::array kArchitectures = {
    GgufArchitecture{"llama", "llama", "LlamaForCausalLM", true, false},
    GgufArchitecture{"qwen2", "qwen2", "Qwen2ForCausalLM", false, false},
    GgufArchitecture{"qwen3", "qwen3", "Qwen3ForCausalLM", false, false},
    GgufArchitecture{"gemma2", "gemma2", "Gemma2ForCausalLM", false, true},
    GgufArchitecture{"phi3", "phi3", "Phi3ForCausalLM", false, false},
};

// Tokens that end an answer in the chat formats of these architectures, whatever eos_token_id says. Files made before
// tokenizer.ggml.eot_token_id existed name only the end of the text.
constexpr std::array<std::string_view, 6> kEndOfTurn = {"<|eot_id|>",    "<|im_end|>",    "<|end|>",
                                                        "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>"};

[[noreturn]] void unsupported(const GgufMetadata& metadata, const std::string& what, const std::string& hint = {}) {
  throw Error(ErrorCode::unsupported, metadata.path() + ": " + what, hint);
}

// Metadata below "<architecture>.".
class Section {
 public:
  explicit Section(const GgufMetadata& metadata)
      : metadata_(metadata), prefix_(std::string(metadata.require_text("general.architecture")) + ".") {}

  std::string key(std::string_view name) const { return prefix_ + std::string(name); }
  std::int64_t integer(std::string_view name) const { return metadata_.require_integer(key(name)); }
  std::optional<std::int64_t> integer_if(std::string_view name) const { return metadata_.integer(key(name)); }
  std::optional<double> number_if(std::string_view name) const { return metadata_.number(key(name)); }
  std::optional<std::string_view> text_if(std::string_view name) const { return metadata_.text(key(name)); }

  // A value that some files give once and others per layer; layers that differ are refused.
  std::optional<std::int64_t> uniform_if(std::string_view name) const {
    const auto found = metadata_.values().find(key(name));
    if (found == metadata_.values().end()) return std::nullopt;
    if (!found->second.is_array) return integer_if(name);
    const std::vector<std::int64_t> values = metadata_.integers(key(name));
    if (values.empty() || std::any_of(values.begin(), values.end(), [&](auto v) { return v != values[0]; })) {
      unsupported(metadata_, key(name) + " differs between layers");
    }
    return values[0];
  }

 private:
  const GgufMetadata& metadata_;
  std::string prefix_;
};

void refuse_what_bittern_lacks(const GgufMetadata& metadata, const Section& section) {
  if (section.integer_if("expert_count").value_or(0) > 0) {
    unsupported(metadata, "is a mixture of experts (" + section.key("expert_count") + "), which Bittern does not run");
  }
  if (metadata.integer("split.count").value_or(1) > 1) {
    unsupported(metadata, "is one part of a split model (split.count)",
                "merge the parts with llama-gguf-split --merge");
  }
}

const GgufTensor& require_tensor(const GgufFile& file, std::string_view name) {
  if (const GgufTensor* tensor = file.find(name)) return *tensor;
  throw Error(ErrorCode::invalid_checkpoint, file.bytes.path + ": has no tensor " + quote_name(name),
              "the file may hold a vocabulary alone");
}

// A small f32 vector.
Json vector_of(const GgufFile& file, const GgufTensor& tensor) {
  if (tensor.type != static_cast<std::uint32_t>(GgufType::f32) || tensor.dims.size() != 1) {
    throw Error(ErrorCode::invalid_checkpoint,
                file.bytes.path + ": tensor " + quote_name(tensor.name) + " must be a vector of F32");
  }
  Json values = Json::array();
  for (std::int64_t i = 0; i < tensor.dims[0]; ++i) {
    float value;
    std::memcpy(&value, tensor.bytes.data() + i * 4, sizeof(value));
    values.push_back(value);
  }
  return values;
}

// Factors stored as tensors divide the frequencies, which config.json calls longrope.
Json rope_factors(const GgufFile& file, const Section& section) {
  Json scaling = {{"rope_type", "longrope"}};
  if (const GgufTensor* factors = file.find("rope_freqs.weight")) {
    // Llama 3.1 scales frequencies alone, so nothing else may change with the context.
    scaling["short_factor"] = scaling["long_factor"] = vector_of(file, *factors);
    scaling["attention_factor"] = 1.0;
    return scaling;
  }
  scaling["short_factor"] = vector_of(file, require_tensor(file, "rope_factors_short.weight"));
  scaling["long_factor"] = vector_of(file, require_tensor(file, "rope_factors_long.weight"));
  if (const auto factor = section.number_if("rope.scaling.attn_factor")) scaling["attention_factor"] = *factor;
  return scaling;
}

Json rope_scaling(const GgufFile& file, const Section& section) {
  if (file.find("rope_freqs.weight") || file.find("rope_factors_long.weight")) return rope_factors(file, section);
  const std::string type(section.text_if("rope.scaling.type").value_or("none"));
  const auto old_factor = section.number_if("rope.scale_linear");
  const double factor = section.number_if("rope.scaling.factor").value_or(old_factor.value_or(1.0));
  if (type == "none" && old_factor.value_or(1.0) == 1.0) return nullptr;
  if (type == "linear" || type == "none") return {{"rope_type", "linear"}, {"factor", factor}};
  if (type != "yarn") {
    unsupported(file.metadata, section.key("rope.scaling.type") + " is " + quote_name(type),
                "Bittern reads none, linear, yarn, and factors stored as tensors");
  }
  Json scaling = {{"rope_type", "yarn"}, {"factor", factor}};
  if (const auto log = section.number_if("rope.scaling.yarn_log_multiplier"); log.value_or(0) != 0) {
    unsupported(file.metadata, section.key("rope.scaling.yarn_log_multiplier") + " is set");
  }
  if (const auto original = section.integer_if("rope.scaling.original_context_length")) {
    scaling["original_max_position_embeddings"] = *original;
  }
  return scaling;
}

void read_rope(const GgufFile& file, const Section& section, std::int64_t head_dim, Json& config) {
  config["rope_theta"] = section.number_if("rope.freq_base").value_or(10000.0);
  const std::int64_t rotary = section.integer_if("rope.dimension_count").value_or(head_dim);
  if (rotary != head_dim) {
    if (gguf_architecture(file.metadata).permuted_heads) {
      unsupported(file.metadata, section.key("rope.dimension_count") + " is " + std::to_string(rotary) +
                                     ", but the heads have " + std::to_string(head_dim) + " values");
    }
    config["partial_rotary_factor"] = static_cast<double>(rotary) / static_cast<double>(head_dim);
  }
  const Json scaling = rope_scaling(file, section);
  if (scaling.is_null()) return;
  config["rope_scaling"] = scaling;
  if (const auto original = section.integer_if("rope.scaling.original_context_length")) {
    config["original_max_position_embeddings"] = *original;
  }
}

std::int64_t read_heads(const GgufFile& file, const Section& section, Json& config) {
  const std::int64_t hidden = section.integer("embedding_length");
  const auto heads = section.uniform_if("attention.head_count");
  if (!heads || *heads <= 0) {
    throw Error(ErrorCode::invalid_checkpoint, file.bytes.path + ": metadata '" + section.key("attention.head_count") +
                                                   "' is missing or not positive");
  }
  const std::int64_t head_dim = section.integer_if("attention.key_length").value_or(hidden / *heads);
  if (head_dim <= 0) {
    throw Error(ErrorCode::invalid_checkpoint, file.bytes.path + ": the heads have no values (embedding_length " +
                                                   std::to_string(hidden) + ", head_count " + std::to_string(*heads) +
                                                   ")");
  }
  if (section.integer_if("attention.value_length").value_or(head_dim) != head_dim) {
    unsupported(file.metadata, section.key("attention.value_length") + " differs from attention.key_length");
  }
  config["hidden_size"] = hidden;
  config["num_attention_heads"] = *heads;
  config["num_key_value_heads"] = section.uniform_if("attention.head_count_kv").value_or(*heads);
  config["head_dim"] = head_dim;
  return head_dim;
}

void read_gemma2(const Section& section, std::int64_t head_dim, Json& config) {
  const std::int64_t layers = config.at("num_hidden_layers").get<std::int64_t>();
  const std::int64_t heads = config.at("num_attention_heads").get<std::int64_t>();
  // GGUF does not store the divisor of the scores: it is the width of a head, but hidden / heads in the 27B model,
  // which is known by its 46 layers.
  config["query_pre_attn_scalar"] = layers == 46 ? config.at("hidden_size").get<std::int64_t>() / heads : head_dim;
  config["attn_logit_softcapping"] = section.number_if("attn_logit_softcapping").value_or(50.0);
  config["final_logit_softcapping"] = section.number_if("final_logit_softcapping").value_or(30.0);
  config["hidden_activation"] = "gelu_pytorch_tanh";
}

std::string dtype_of(const GgufTensor& tensor) {
  if (tensor.type == static_cast<std::uint32_t>(GgufType::f32)) return "float32";
  return tensor.type == static_cast<std::uint32_t>(GgufType::bf16) ? "bfloat16" : "float16";
}

void read_special_ids(const GgufMetadata& metadata, Json& config) {
  for (const auto& [key, name] : {std::pair{"tokenizer.ggml.bos_token_id", "bos_token_id"},
                                  {"tokenizer.ggml.eos_token_id", "eos_token_id"},
                                  {"tokenizer.ggml.padding_token_id", "pad_token_id"}}) {
    if (const auto id = metadata.integer(key)) config[name] = *id;
  }
}

}  // namespace

const GgufArchitecture& gguf_architecture(const GgufMetadata& metadata) {
  const std::string_view name = metadata.require_text("general.architecture");
  std::string known;
  for (const GgufArchitecture& row : kArchitectures) {
    if (row.name == name) return row;
    known += (known.empty() ? "" : ", ") + std::string(row.name);
  }
  unsupported(metadata, "architecture " + quote_name(name) + " is not supported in GGUF files", "supported: " + known);
}

const GgufArchitecture* gguf_architecture_of_class(std::string_view class_name) {
  if (class_name == "MistralForCausalLM")
    class_name = "LlamaForCausalLM";  // GGUF has no architecture of its own for it
  const auto found = std::find_if(kArchitectures.begin(), kArchitectures.end(),
                                  [&](const auto& row) { return row.class_name == class_name; });
  return found == kArchitectures.end() ? nullptr : &*found;
}

Json gguf_config(const GgufFile& file) {
  const GgufArchitecture& architecture = gguf_architecture(file.metadata);
  const Section section(file.metadata);
  refuse_what_bittern_lacks(file.metadata, section);
  const GgufTensor& table = require_tensor(file, "token_embd.weight");
  Json config = {{"architectures", {architecture.class_name}}, {"model_type", architecture.model_type}};
  config["torch_dtype"] = dtype_of(table);
  config["num_hidden_layers"] = section.integer("block_count");
  const auto ffn = section.uniform_if("feed_forward_length");
  config["intermediate_size"] = ffn ? *ffn : section.integer("feed_forward_length");
  config["vocab_size"] = table.dims.back();
  config["max_position_embeddings"] = section.integer("context_length");
  if (const auto eps = section.number_if("attention.layer_norm_rms_epsilon")) config["rms_norm_eps"] = *eps;
  config["tie_word_embeddings"] = file.find("output.weight") == nullptr;
  config["attention_bias"] = file.find("blk.0.attn_q.bias") != nullptr || file.find("blk.0.attn_qkv.bias") != nullptr;
  config["mlp_bias"] = file.find("blk.0.ffn_up.bias") != nullptr;
  const std::int64_t head_dim = read_heads(file, section, config);
  read_rope(file, section, head_dim, config);
  if (const auto window = section.integer_if("attention.sliding_window"); window.value_or(0) > 0) {
    config["sliding_window"] = *window;
  }
  if (architecture.name == "gemma2") read_gemma2(section, head_dim, config);
  read_special_ids(file.metadata, config);
  return config;
}

Json gguf_generation_config(const GgufMetadata& metadata) {
  Json ends = Json::array();
  const auto add = [&](std::int64_t id) {
    if (std::find(ends.begin(), ends.end(), id) == ends.end()) ends.push_back(id);
  };
  for (const char* key :
       {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
    if (const auto id = metadata.integer(key)) add(*id);
  }
  const std::vector<std::string_view> tokens = metadata.texts("tokenizer.ggml.tokens");
  const std::vector<std::int64_t> types = metadata.integers("tokenizer.ggml.token_type");
  for (std::size_t id = 0; id < std::min(tokens.size(), types.size()); ++id) {
    const bool whole = types[id] == 3 || types[id] == 4;  // control and user-defined tokens
    if (whole && std::find(kEndOfTurn.begin(), kEndOfTurn.end(), tokens[id]) != kEndOfTurn.end()) {
      add(static_cast<std::int64_t>(id));
    }
  }
  Json config = Json::object();
  if (!ends.empty()) config["eos_token_id"] = ends;
  if (const auto id = metadata.integer("tokenizer.ggml.bos_token_id")) config["bos_token_id"] = *id;
  return config;
}

}  // namespace bittern
