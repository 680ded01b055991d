// `bittern show`: what a checkpoint is, from config.json and the headers of its weight files alone: architecture,
// parameters, formats and bytes of each part, and what a token costs in the KV cache. No weight is read.
#include <bittern/error.h>

#include <algorithm>
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
#include "tensor/workspace.h"
#include "verb.h"

namespace bittern::cli {
namespace {

/// What shares a format.
struct Share {
  std::int64_t leaves = 0, parameters = 0, bytes = 0;
};

struct Part {
  std::int64_t parameters = 0;
  std::int64_t bytes = 0;
  std::map<std::string, Share> formats;  // by name
};

double bits_per(std::int64_t bytes, std::int64_t parameters) {
  return parameters > 0 ? 8.0 * static_cast<double>(bytes) / static_cast<double>(parameters) : 0.0;
}

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

std::int64_t elements(const TensorEntry& entry) {
  std::int64_t count = 1;
  for (const std::int64_t n : entry.shape) count *= n;
  return count;
}

/// Codes packed into words of 32 bits, by what is there: how many words and scales the weights take.
std::string packed_format(std::int64_t weights, std::int64_t words, std::int64_t scales) {
  std::string name = "int" + std::to_string((32 * words + weights / 2) / std::max<std::int64_t>(weights, 1));
  return scales > 0 ? name + " g" + std::to_string(weights / scales) : name;
}

class Inventory final : public nn::Visitor {
 public:
  explicit Inventory(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  void linear(const std::string& name, nn::Linear& linear) override {
    add(name, linear.in() * linear.out(), linear.has_bias() ? linear.out() : 0);
  }
  void norm(const std::string& name, nn::RmsNorm& norm) override { add(name, norm.width(), 0); }
  void embedding(const std::string& name, nn::Embedding& table) override {
    add(name, table.vocab() * table.width(), 0);
  }

  std::vector<std::pair<std::string, Part>> parts;

 private:
  Part& part(const std::string& name) {
    for (auto& [known, part] : parts) {
      if (known == name) return part;
    }
    return parts.emplace_back(name, Part()).second;
  }

  void add(const std::string& leaf, std::int64_t weights, std::int64_t biases) {
    std::map<std::string, const TensorEntry*> tensors;  // by what follows "leaf."
    std::int64_t bytes = 0;
    for (const TensorEntry& entry : checkpoint_.entries()) {
      if (!entry.name.starts_with(leaf + ".")) continue;
      tensors[entry.name.substr(leaf.size() + 1)] = &entry;
      bytes += static_cast<std::int64_t>(entry.bytes);
    }
    Part& part = this->part(part_name(leaf));
    part.parameters += weights + biases;
    part.bytes += bytes;
    if (tensors.empty()) return;  // tied to another leaf
    Share& share = part.formats[format_name(tensors, weights)];
    ++share.leaves;
    share.parameters += weights + biases;
    share.bytes += bytes;
  }

  static std::string format_name(const std::map<std::string, const TensorEntry*>& tensors, std::int64_t weights) {
    const auto count = [&](const char* name) { return tensors.contains(name) ? elements(*tensors.at(name)) : 0; };
    if (tensors.contains("qweight")) return packed_format(weights, count("qweight"), count("scales"));
    if (tensors.contains("weight_packed")) return packed_format(weights, count("weight_packed"), count("weight_scale"));
    if (!tensors.contains("weight")) return "unknown";
    const TensorEntry& weight = *tensors.at("weight");
    return weight.dtype ? std::string(dtype_name(*weight.dtype)) : weight.dtype_name;
  }

  const Checkpoint& checkpoint_;
};

/// "q4_k" where all leaves have it, else "q4_k x 10, q6_k x 2".
std::string formats_text(const Part& part) {
  std::string text;
  for (const auto& [name, share] : part.formats) {
    text += (text.empty() ? "" : ", ") + name;
    if (part.formats.size() > 1) text += " x " + std::to_string(share.leaves);
  }
  return text;
}

void add_shares(std::map<std::string, Share>& sums, const Part& part) {
  for (const auto& [name, share] : part.formats) {
    Share& sum = sums[name];
    sum.leaves += share.leaves;
    sum.parameters += share.parameters;
    sum.bytes += share.bytes;
  }
}

Json to_json(const std::map<std::string, Share>& formats) {
  Json list = Json::array();
  for (const auto& [name, share] : formats) {
    list.push_back({{"format", name},
                    {"leaves", share.leaves},
                    {"parameters", share.parameters},
                    {"bytes", share.bytes},
                    {"bits_per_weight", bits_per(share.bytes, share.parameters)}});
  }
  return list;
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
  Inventory inventory(*checkpoint);
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
  std::map<std::string, Share> formats;
  for (const auto& [name, part] : inventory.parts) {
    json["parts"].push_back({{"name", name},
                             {"parameters", part.parameters},
                             {"bytes", part.bytes},
                             {"format", formats_text(part)},
                             {"formats", to_json(part.formats)},
                             {"bits_per_weight", bits_per(part.bytes, part.parameters)}});
    parameters += part.parameters;
    bytes += part.bytes;
    add_shares(formats, part);
  }
  json["formats"] = to_json(formats);
  json["parameters"] = parameters;
  json["bytes"] = bytes;
  json["bits_per_weight"] = bits_per(bytes, parameters);
  return json;
}

// How a workspace is packed and where it came from; null for other models.
Json workspace_json(const ModelFiles& files) {
  const auto* workspace = dynamic_cast<const WorkspaceFiles*>(&files);
  if (workspace == nullptr) return nullptr;
  const WorkspaceManifest& manifest = workspace->manifest();
  return {{"model_name", workspace->config_ini().text("model_name")},
          {"level", manifest.level},
          {"layout", manifest.layout.describe()},
          {"source", manifest.source},
          {"program", manifest.program}};
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
  if (json.contains("workspace")) {
    const Json& w = json.at("workspace");
    const auto text = [&](const char* key) { return w.at(key).get<std::string>(); };
    std::printf("  workspace '%s', packed for %s (%s) by %s from %s\n\n", text("model_name").c_str(),
                text("level").c_str(), text("layout").c_str(), text("program").c_str(), text("source").c_str());
  }
  Table table({"part", "parameters", "format", "bits per weight", "bytes"});
  char bits[32];
  for (const Json& part : json.at("parts")) {
    std::snprintf(bits, sizeof(bits), "%.2f", part.at("bits_per_weight").get<double>());
    table.row({part.at("name").get<std::string>(), human_count(part.at("parameters").get<std::uint64_t>()),
               part.at("format").get<std::string>(), bits, human_bytes(part.at("bytes").get<std::uint64_t>())});
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
  Json json = report(*files);
  if (Json workspace = workspace_json(*files); !workspace.is_null()) json["workspace"] = std::move(workspace);
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
