// `bittern show`: what a checkpoint is, from config.json and the headers of its weight files alone: architecture,
// parameters, formats and bytes of each part, and what a token costs in the KV cache. No weight is read.
#include <bittern/error.h>

#include <cstdio>
#include <map>

#include "base/json.h"
#include "base/strings.h"
#include "model_source.h"
#include "models/model.h"
#include "nn/linear.h"
#include "options.h"
#include "table.h"
#include "tensor/checkpoint.h"
#include "verb.h"

namespace bittern::cli {
namespace {

struct Part {
  std::int64_t parameters = 0;
  std::int64_t bytes = 0;
  std::map<std::string, int> formats;  // name -> how many leaves
};

// "model.layers.3.self_attn.q_proj" -> "self_attn"; outside the layers the leaf's own name.
std::string part_name(const std::string& leaf) {
  const auto last = leaf.rfind('.');
  if (last == std::string::npos) return leaf;
  const auto before = leaf.rfind('.', last - 1);
  const std::string parent = leaf.substr(before + 1, last - before - 1);
  const bool in_layer = leaf.find_first_of("0123456789") != std::string::npos;
  const bool directly_in_layer = !parent.empty() && parent.find_first_not_of("0123456789") == std::string::npos;
  if (!in_layer) return leaf.substr(last + 1);
  return directly_in_layer ? "norms" : parent;
}

class Inventory final : public nn::Visitor {
 public:
  Inventory(const Checkpoint& checkpoint, const Json& quantization)
      : checkpoint_(checkpoint), quantization_(quantization) {}

  void linear(const std::string& name, nn::Linear& linear) override {
    add(name, linear.in() * linear.out() + (linear.has_bias() ? linear.out() : 0));
  }
  void norm(const std::string& name, nn::RmsNorm& norm) override { add(name, norm.width()); }
  void embedding(const std::string& name, nn::Embedding& table) override { add(name, table.vocab() * table.width()); }

  std::vector<std::pair<std::string, Part>> parts;

 private:
  Part& part(const std::string& name) {
    for (auto& [known, part] : parts) {
      if (known == name) return part;
    }
    return parts.emplace_back(name, Part()).second;
  }

  void add(const std::string& leaf, std::int64_t parameters) {
    Part& part = this->part(part_name(leaf));
    part.parameters += parameters;
    for (const TensorEntry& entry : checkpoint_.entries()) {
      if (!entry.name.starts_with(leaf + ".")) continue;
      part.bytes += static_cast<std::int64_t>(entry.bytes);
      if (entry.name == leaf + ".weight")
        ++part.formats[entry.dtype ? std::string(dtype_name(*entry.dtype)) : "unknown"];
      if (entry.name == leaf + ".qweight") ++part.formats[quantized_format()];
    }
  }

  std::string quantized_format() const {
    return "int4 g" + std::to_string(get_or<std::int64_t>(quantization_, "group_size", -1, "quantization_config"));
  }

  const Checkpoint& checkpoint_;
  const Json& quantization_;
};

std::string formats_text(const Part& part) {
  std::string text;
  for (const auto& [name, count] : part.formats) text += (text.empty() ? "" : ", ") + name;
  return text;
}

Json kv_json(const ModelConfig& config) {
  const std::int64_t values = 2LL * config.layers * config.kv_heads * config.head_dim;
  const std::int64_t headers = 2LL * config.layers * config.kv_heads;  // one scale and one zero per token and head
  return {{"bf16", values * 2}, {"int8", values + headers * 8}, {"int4", values / 2 + headers * 8}};
}

Json report(const ModelFiles& files) {
  const ModelConfig loaded = load_config(files);
  const std::unique_ptr<Model> model = build_model(loaded);
  const ModelConfig& config = model->config();
  const auto shared = std::shared_ptr<const ModelFiles>(&files, [](const ModelFiles*) {});
  const std::unique_ptr<Checkpoint> checkpoint = open_checkpoint(shared, config.quantization);
  Inventory inventory(*checkpoint, config.quantization);
  model->visit(inventory);

  Json json = {{"model", files.origin()},
               {"architecture", config.architecture},
               {"layers", config.layers},
               {"hidden", config.hidden},
               {"heads", config.heads},
               {"kv_heads", config.kv_heads},
               {"head_dim", config.head_dim},
               {"ffn", config.ffn},
               {"vocab", config.vocab},
               {"context", config.max_positions},
               {"tied_embeddings", config.tied_embeddings},
               {"parts", Json::array()},
               {"kv_bytes_per_token", kv_json(config)}};
  std::int64_t parameters = 0, bytes = 0;
  for (const auto& [name, part] : inventory.parts) {
    json["parts"].push_back(
        {{"name", name}, {"parameters", part.parameters}, {"bytes", part.bytes}, {"format", formats_text(part)}});
    parameters += part.parameters;
    bytes += part.bytes;
  }
  json["parameters"] = parameters;
  json["bytes"] = bytes;
  json["bits_per_weight"] = parameters > 0 ? 8.0 * static_cast<double>(bytes) / static_cast<double>(parameters) : 0.0;
  return json;
}

void print_text(const Json& json) {
  const auto number = [&](const char* key) { return json.at(key).get<std::int64_t>(); };
  std::printf("%s\n", json.at("model").get<std::string>().c_str());
  std::printf(
      "  %s, %s parameters, %s on disk (%.2f bits per weight)\n", json.at("architecture").get<std::string>().c_str(),
      human_count(static_cast<std::uint64_t>(number("parameters"))).c_str(),
      human_bytes(static_cast<std::uint64_t>(number("bytes"))).c_str(), json.at("bits_per_weight").get<double>());
  std::printf("  %ld layers, hidden %ld, %ld heads of %ld, %ld KV heads, ffn %ld, vocabulary %ld, context %ld%s\n\n",
              number("layers"), number("hidden"), number("heads"), number("head_dim"), number("kv_heads"),
              number("ffn"), number("vocab"), number("context"),
              json.at("tied_embeddings").get<bool>() ? ", tied embeddings" : "");
  Table table({"part", "parameters", "format", "bytes"});
  for (const Json& part : json.at("parts")) {
    table.row({part.at("name").get<std::string>(), human_count(part.at("parameters").get<std::uint64_t>()),
               part.at("format").get<std::string>(), human_bytes(part.at("bytes").get<std::uint64_t>())});
  }
  std::printf("%s\n", table.text().c_str());
  const Json& kv = json.at("kv_bytes_per_token");
  std::printf(
      "  KV cache per token: bf16 %s, int8 %s, int4 %s\n", human_bytes(kv.at("bf16").get<std::uint64_t>()).c_str(),
      human_bytes(kv.at("int8").get<std::uint64_t>()).c_str(), human_bytes(kv.at("int4").get<std::uint64_t>()).c_str());
}

struct ShowOptions {
  std::string model;
  bool json = false;
};

int run_show(const ShowOptions& options) {
  const auto files = open_model(options.model);
  const Json json = report(*files);
  if (options.json) {
    std::printf("%s\n", json.dump(2).c_str());
  } else {
    print_text(json);
  }
  return 0;
}

}  // namespace

std::function<int()> declare_show(CLI::App& command) {
  auto options = std::make_shared<ShowOptions>();
  add_model_argument(command, options->model);
  add_option(command, "--json", options->json, "print JSON");
  return [options] { return run_show(*options); };
}

}  // namespace bittern::cli
