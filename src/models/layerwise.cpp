// Layer-wise loading and running.
#include "models/layerwise.h"

#include <algorithm>
#include <set>

#include "backend/measure.h"
#include "base/check.h"
#include "models/weight_loader.h"
#include "nn/linear.h"

namespace bittern {
namespace {

constexpr int kBlockTokens = 64;
constexpr int kLogitRows = 64;

// Passes on the leaves that belong to no layer.
class OutsideOnly final : public nn::Visitor {
 public:
  OutsideOnly(Model& model, nn::Visitor& inner) : inner_(inner) {
    Names names(inside_);
    for (int i = 0; i < model.config().layers; ++i) model.visit_layer(names, i);
  }
  void linear(const std::string& name, nn::Linear& leaf) override {
    if (!inside_.contains(name)) inner_.linear(name, leaf);
  }
  void norm(const std::string& name, nn::RmsNorm& leaf) override {
    if (!inside_.contains(name)) inner_.norm(name, leaf);
  }
  void embedding(const std::string& name, nn::Embedding& leaf) override { inner_.embedding(name, leaf); }

 private:
  struct Names final : nn::Visitor {
    explicit Names(std::set<std::string>& to) : names(to) {}
    void linear(const std::string& name, nn::Linear&) override { names.insert(name); }
    void norm(const std::string& name, nn::RmsNorm&) override { names.insert(name); }
    void embedding(const std::string&, nn::Embedding&) override {}
    std::set<std::string>& names;
  };

  nn::Visitor& inner_;
  std::set<std::string> inside_;
};

}  // namespace

LayerwiseModel::LayerwiseModel(std::shared_ptr<const ModelFiles> files, Backend& backend)
    : files_(std::move(files)), backend_(backend), model_(build_model(load_config(*files_))) {}

void LayerwiseModel::load_layer(int layer) {
  const auto checkpoint = open_checkpoint(files_, config().quantization);
  const LoadOptions options;
  WeightLoader loader(*checkpoint, backend_, options);
  model_->visit_layer(loader, layer);
}

void LayerwiseModel::drop_layer(int layer) {
  WeightDropper dropper;
  model_->visit_layer(dropper, layer);
}

void LayerwiseModel::load_outside() {
  const auto checkpoint = open_checkpoint(files_, config().quantization);
  const LoadOptions options;
  WeightLoader loader(*checkpoint, backend_, options);
  OutsideOnly outside(*model_, loader);
  model_->visit(outside);
}

void LayerwiseModel::drop_outside() {
  WeightDropper dropper;
  OutsideOnly outside(*model_, dropper);
  model_->visit(outside);
}

namespace {

// Bytes of arena that the largest piece of a pass takes.
std::int64_t measure_arena(LayerwiseModel& model, BatchView batch) {
  MeasureBackend measure(model.backend());
  Arena counting;
  KvPool no_pool(model.model().kv_spec(KvFormat::f32, kBlockTokens), 0);
  nn::Ctx ctx{measure, counting, batch, no_pool};
  const std::vector<std::int32_t> rows(kLogitRows, 0);
  model.model().head(ctx, ctx.activation(model.config().hidden), rows);
  for (int branch = 0; branch < model.model().branches(); ++branch) {
    counting.reset();
    model.model().forward_branch(ctx, 0, branch, ctx.activation(model.config().hidden));
  }
  return counting.peak();
}

}  // namespace

LayerwisePass::LayerwisePass(LayerwiseModel& model, int max_tokens, int max_sequences, KvFormat kv)
    : model_(model), max_tokens_(max_tokens), kv_spec_(model.model().kv_spec(kv, kBlockTokens)) {
  BITTERN_CHECK(max_tokens > 0 && max_sequences > 0 && max_sequences <= max_tokens);
  BITTERN_CHECK(model.backend().host_memory() && model.backend().activation_dtype() == DType::f32,
                "layer-wise passes keep hidden states in host memory as f32");
  kv_spec_.layers = 1;
  kv_blocks_ = max_tokens / kBlockTokens + max_sequences;
  ids_.assign(static_cast<std::size_t>(max_tokens), 0);
  const std::vector<std::int32_t> one = {max_tokens};
  set_sequences(one);
  arena_ = Arena(model.backend(), measure_arena(model, batch_));
  kv_ = model.backend().make_kv_pool(kv_spec_, kv_blocks_);
}

void LayerwisePass::set_sequences(std::span<const std::int32_t> lengths) {
  lengths_.assign(lengths.begin(), lengths.end());
  starts_.assign(1, 0);
  positions_.clear();
  const std::int32_t longest = *std::max_element(lengths_.begin(), lengths_.end());
  batch_.max_blocks = (longest + kBlockTokens - 1) / kBlockTokens;
  tables_.assign(lengths_.size() * static_cast<std::size_t>(batch_.max_blocks), 0);
  std::int32_t next = 0;
  for (std::size_t s = 0; s < lengths_.size(); ++s) {
    for (std::int32_t p = 0; p < lengths_[s]; ++p) positions_.push_back(p);
    for (int b = 0; b < (lengths_[s] + kBlockTokens - 1) / kBlockTokens; ++b) {
      tables_[s * static_cast<std::size_t>(batch_.max_blocks) + static_cast<std::size_t>(b)] = next++;
    }
    starts_.push_back(static_cast<std::int32_t>(positions_.size()));
  }
  BITTERN_CHECK(next <= kv_blocks_ && positions_.size() <= static_cast<std::size_t>(max_tokens_));
  tokens_ = static_cast<int>(positions_.size());
  batch_.tokens = tokens_;
  batch_.sequences = static_cast<int>(lengths_.size());
  batch_.token_ids = std::span(ids_).first(positions_.size());
  batch_.positions = positions_;
  batch_.q_start = starts_;
  batch_.context = lengths_;
  batch_.rope_length = lengths_;
  batch_.block_tables = tables_;
}

nn::Ctx LayerwisePass::context(int layer, nn::Probe* probe) {
  arena_.reset();
  nn::Ctx ctx{model_.backend(), arena_, batch_, *kv_};
  ctx.probe = probe;
  ctx.first_layer = layer;
  return ctx;
}

Tensor LayerwisePass::load(nn::Ctx& ctx, const float* hidden) {
  Tensor tensor = ctx.activation(model_.config().hidden);
  std::copy_n(hidden, tensor.size(), tensor.as<float>());
  return tensor;
}

void LayerwisePass::embed(std::span<const std::int32_t> ids, float* hidden) {
  BITTERN_CHECK(static_cast<int>(ids.size()) == tokens_);
  std::copy(ids.begin(), ids.end(), ids_.begin());
  nn::Ctx ctx = context(0, nullptr);
  const Tensor out = model_.model().embed(ctx);
  model_.backend().synchronize();
  std::copy_n(out.as<float>(), out.size(), hidden);
}

void LayerwisePass::forward_branch(int layer, int branch, const float* hidden, float* out, nn::Probe* probe) {
  nn::Ctx ctx = context(layer, probe);
  const Tensor result = model_.model().forward_branch(ctx, layer, branch, load(ctx, hidden));
  model_.backend().synchronize();
  std::copy_n(result.as<float>(), result.size(), out);
}

void LayerwisePass::forward_layer(int layer, float* hidden, nn::Probe* probe) {
  branch_.resize(static_cast<std::size_t>(tokens_) * static_cast<std::size_t>(model_.config().hidden));
  for (int branch = 0; branch < model_.model().branches(); ++branch) {
    forward_branch(layer, branch, hidden, branch_.data(), probe);
    for (std::size_t i = 0; i < branch_.size(); ++i) hidden[i] += branch_[i];
  }
}

std::span<const float> LayerwisePass::logits(const float* hidden, std::span<const std::int32_t> rows) {
  BITTERN_CHECK(rows.size() <= kLogitRows);
  nn::Ctx ctx = context(0, nullptr);
  const Tensor out = model_.model().head(ctx, load(ctx, hidden), rows);
  model_.backend().synchronize();
  return {out.as<float>(), static_cast<std::size_t>(out.size())};
}

std::int64_t LayerwisePass::bytes() const {
  return arena_.capacity() + kv_blocks_ * model_.backend().kv_block_bytes(kv_spec_);
}

}  // namespace bittern
