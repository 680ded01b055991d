// A small Llama checkpoint with random weights, written to a directory: what the tests of quantization read.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "base/json.h"
#include "tensor/convert.h"
#include "tensor/safetensors.h"

namespace bittern::testing {

struct TinyShape {
  int layers = 2;
  int hidden = 64;
  int ffn = 96;
  int heads = 4;
  int kv_heads = 2;
  int vocab = 40;
  bool tied = false;
  DType dtype = DType::bf16;
};

class TinyCheckpoint {
 public:
  explicit TinyCheckpoint(TinyShape shape = {}) : shape_(shape) {
    const std::int64_t kv = shape.hidden / shape.heads * shape.kv_heads;
    add("model.embed_tokens.weight", {shape.vocab, shape.hidden});
    for (int i = 0; i < shape.layers; ++i) {
      const std::string layer = "model.layers." + std::to_string(i) + ".";
      add(layer + "input_layernorm.weight", {shape.hidden});
      add(layer + "self_attn.q_proj.weight", {shape.hidden, shape.hidden});
      add(layer + "self_attn.k_proj.weight", {kv, shape.hidden});
      add(layer + "self_attn.v_proj.weight", {kv, shape.hidden});
      add(layer + "self_attn.o_proj.weight", {shape.hidden, shape.hidden});
      add(layer + "post_attention_layernorm.weight", {shape.hidden});
      add(layer + "mlp.gate_proj.weight", {shape.ffn, shape.hidden});
      add(layer + "mlp.up_proj.weight", {shape.ffn, shape.hidden});
      add(layer + "mlp.down_proj.weight", {shape.hidden, shape.ffn});
    }
    add("model.norm.weight", {shape.hidden});
    if (!shape.tied) add("lm_head.weight", {shape.vocab, shape.hidden});
    config_ = {{"architectures", {"LlamaForCausalLM"}},
               {"model_type", "llama"},
               {"hidden_size", shape.hidden},
               {"intermediate_size", shape.ffn},
               {"num_hidden_layers", shape.layers},
               {"num_attention_heads", shape.heads},
               {"num_key_value_heads", shape.kv_heads},
               {"vocab_size", shape.vocab},
               {"max_position_embeddings", 128},
               {"rms_norm_eps", 1e-5},
               {"rope_theta", 10000.0},
               {"hidden_act", "silu"},
               {"tie_word_embeddings", shape.tied}};
  }

  Json& config() { return config_; }
  /// f32 values of a tensor, to be changed before write(); they are rounded to the shape's dtype there.
  std::vector<float>& values(const std::string& name) { return values_.at(name); }
  void remove(const std::string& name) {
    values_.erase(name);
    std::erase_if(specs_, [&](const TensorSpec& spec) { return spec.name == name; });
  }

  void write(const std::filesystem::path& dir) const {
    std::filesystem::create_directories(dir);
    ShardedSafetensorsWriter writer(dir, specs_);
    for (const TensorSpec& spec : specs_) {
      std::vector<std::byte> bytes(static_cast<std::size_t>(spec.bytes()));
      const std::vector<float>& values = values_.at(spec.name);
      convert_from_f32(values.data(), spec.dtype, std::ssize(values), bytes.data());
      writer.write(spec.name, bytes);
    }
    writer.finish();
    text(dir / "config.json", config_.dump());
    text(dir / "generation_config.json", "{\"eos_token_id\": 2}\n");
    text(dir / "tokenizer.json", "{\"any\": \"bytes\"}");
    text(dir / "chat_template.jinja", "{{ messages }}");
    text(dir / "LICENSE", "a licence");
    text(dir / "README.md", "the card of the original model");
  }

  static void text(const std::filesystem::path& path, const std::string& contents) {
    std::ofstream(path, std::ios::binary) << contents;
  }

 private:
  void add(const std::string& name, std::vector<std::int64_t> shape) {
    std::int64_t count = 1;
    for (const std::int64_t n : shape) count *= n;
    std::vector<float>& values = values_[name];
    for (std::int64_t i = 0; i < count; ++i) {
      state_ = state_ * 6364136223846793005u + 1442695040888963407u;
      const float uniform = static_cast<float>(static_cast<std::int32_t>(state_ >> 32)) * 0x1p-31f;  // [-1, 1)
      values.push_back(shape.size() == 1 ? 1.0f + 0.1f * uniform : 0.08f * uniform);
    }
    specs_.push_back({name, shape_.dtype, std::move(shape)});
  }

  TinyShape shape_;
  Json config_;
  std::vector<TensorSpec> specs_;
  std::map<std::string, std::vector<float>> values_;
  std::uint64_t state_ = 1;
};

}  // namespace bittern::testing
