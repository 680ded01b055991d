// Loading: one Visitor binds every leaf to the checkpoint's weights, and every key is accounted for. Missing and unused
// keys are collected first and reported together, before any weight is packed.
#include <bittern/error.h>

#include <algorithm>
#include <set>

#include "models/model.h"
#include "models/weight_loader.h"

#include "nn/linear.h"

namespace bittern {
namespace {

// Buffers that old exporters wrote and every reader recomputes.
bool is_derived_buffer(const std::string& key) {
  return key.ends_with(".rotary_emb.inv_freq") || key.ends_with(".attn.masked_bias");
}

std::string listed(const std::vector<std::string>& keys) {
  constexpr std::size_t kShown = 8;
  std::string text;
  for (std::size_t i = 0; i < std::min(kShown, keys.size()); ++i) text += (i ? ", " : "") + keys[i];
  if (keys.size() > kShown) text += ", and " + std::to_string(keys.size() - kShown) + " more";
  return text;
}

// Finds what the model needs that the checkpoint lacks.
class MissingKeys final : public nn::Visitor {
 public:
  explicit MissingKeys(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  void linear(const std::string& name, nn::Linear& linear) override {
    if (!checkpoint_.has_linear(name)) missing_.push_back(name + ".weight");
    if (linear.has_bias()) need(name + ".bias");
  }
  void norm(const std::string& name, nn::RmsNorm&) override { need(name + ".weight"); }
  void embedding(const std::string& name, nn::Embedding&) override { need(name + ".weight"); }

  const std::vector<std::string>& missing() const { return missing_; }

 private:
  void need(const std::string& key) {
    if (!checkpoint_.contains(key)) missing_.push_back(key);
  }

  const Checkpoint& checkpoint_;
  std::vector<std::string> missing_;
};

void refuse_missing(Model& model, const Checkpoint& checkpoint, const std::string& origin) {
  MissingKeys visitor(checkpoint);
  model.visit(visitor);
  if (visitor.missing().empty()) return;
  throw Error(ErrorCode::invalid_checkpoint, origin + ": the checkpoint lacks " + listed(visitor.missing()),
              "config.json and the weights do not belong together, or a shard is missing");
}

void refuse_unused(const Checkpoint& checkpoint, const std::set<std::string>& used, bool tied, const std::string& head,
                   const std::string& origin) {
  std::vector<std::string> unused;
  for (const TensorEntry& entry : checkpoint.entries()) {
    const bool stored_head = tied && entry.name == head + ".weight";  // a tied head may be stored all the same
    if (!used.contains(entry.name) && !is_derived_buffer(entry.name) && !stored_head) unused.push_back(entry.name);
  }
  if (unused.empty()) return;
  throw Error(ErrorCode::invalid_checkpoint,
              origin + ": the checkpoint has weights the model does not use: " + listed(unused),
              "ignoring them would change the model's answers silently");
}

}  // namespace

std::unique_ptr<Model> load_model(const std::shared_ptr<const ModelFiles>& files, Backend& backend,
                                  const LoadOptions& options) {
  const ModelConfig config = load_config(*files);
  std::unique_ptr<Model> model = build_model(config);
  const std::unique_ptr<Checkpoint> checkpoint = open_checkpoint(files, config.quantization);
  refuse_missing(*model, *checkpoint, files->origin());
  WeightLoader loader(*checkpoint, backend, options);
  model->visit(loader);
  refuse_unused(*checkpoint, loader.used(), model->config().tied_embeddings, model->head_name(), files->origin());
  return model;
}

KvSpec Model::kv_spec(KvFormat format, int block_tokens) const {
  KvSpec spec;
  spec.format = format;
  spec.layers = config_.layers;
  spec.kv_heads = config_.kv_heads;
  spec.head_dim = config_.head_dim;
  spec.block_tokens = block_tokens;
  return spec;
}

namespace {

class ByteCounter final : public nn::Visitor {
 public:
  void linear(const std::string&, nn::Linear& linear) override {
    bytes += linear.bytes();
    add_mapped(linear.packed());
  }
  void norm(const std::string&, nn::RmsNorm& norm) override { bytes += norm.bytes(); }
  void embedding(const std::string&, nn::Embedding& embedding) override {
    bytes += embedding.bytes();
    add_mapped(embedding.packed());
  }

  std::int64_t bytes = 0, mapped = 0;

 private:
  void add_mapped(const PackedWeight* weight) {
    if (weight != nullptr && weight->mapped()) mapped += weight->bytes();
  }
};

}  // namespace

std::int64_t weight_bytes(Model& model) {
  ByteCounter counter;
  model.visit(counter);
  return counter.bytes;
}

std::int64_t mapped_weight_bytes(Model& model) {
  ByteCounter counter;
  model.visit(counter);
  return counter.mapped;
}

}  // namespace bittern
