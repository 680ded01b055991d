// Planning and loading. With a limit, the number of KV blocks is settled by the plan and handed to the load, which
// would otherwise look at the free memory of another moment.
#include "server/checkpoint_source.h"

#include <bittern/error.h>
#include <fmt/core.h>

#include <algorithm>
#include <optional>

#include "models/kv_params.h"
#include "models/weight_loader.h"
#include "nn/linear.h"

namespace bittern::server {
namespace {

std::string mebibytes(std::int64_t bytes) { return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / (1 << 20)); }

/// Loads each leaf, counts it and gives it back.
class WeightMeter final : public nn::Visitor {
 public:
  WeightMeter(const Checkpoint& checkpoint, Backend& backend, const LoadOptions& options)
      : loader_(checkpoint, backend, options) {}

  void linear(const std::string& name, nn::Linear& leaf) override {
    loader_.linear(name, leaf);
    bytes += leaf.bytes();
    dropper_.linear(name, leaf);
  }
  void norm(const std::string& name, nn::RmsNorm& leaf) override {
    loader_.norm(name, leaf);
    bytes += leaf.bytes();
    dropper_.norm(name, leaf);
  }
  void embedding(const std::string& name, nn::Embedding& leaf) override {
    loader_.embedding(name, leaf);
    bytes += leaf.bytes();
    dropper_.embedding(name, leaf);
  }

  std::int64_t bytes = 0;

 private:
  WeightLoader loader_;
  WeightDropper dropper_;
};

class CheckpointSource final : public ModelSource {
 public:
  explicit CheckpointSource(std::function<OpenedModel()> open) : open_(std::move(open)) {}

  ModelNeeds plan(std::int64_t limit) override {
    opened_ = open_();
    const ModelFiles& files = *opened_->files;
    LoadedModelOptions& options = opened_->options;
    const auto backend = make_backend(options.backend, options.device);
    const auto model = build_model(load_config(files));
    if (!weights_) weights_ = measure(*model, *backend);
    EngineOptions& engine = options.engine;
    const auto given = engine.kv_params;
    engine.kv_params = load_kv_params(engine.kv_cache, options.kv_params, files, model->config());
    MemoryPlan plan = plan_memory(*model, *backend, engine);
    if (limit > 0) plan = within(limit, plan, *model, *backend, engine);
    engine.kv_params = given;
    return {*weights_ + plan.total() - plan.weights, plan.context};
  }

  SourcedModel load(const std::function<void(double)>& progress) override {
    OpenedModel opened = opened_ ? std::move(*opened_) : open_();
    opened_.reset();
    opened.options.load.progress = [&](std::int64_t done, std::int64_t total) {
      progress(static_cast<double>(done) / static_cast<double>(std::max<std::int64_t>(total, 1)));
    };
    const auto model = std::make_shared<LoadedModel>(opened.files, opened.options);
    const MemoryPlan& plan = model->engine().plan();
    weights_ = plan.weights;
    return {model, {plan.total(), plan.context}};
  }

 private:
  std::int64_t measure(Model& model, Backend& backend) const {
    const auto checkpoint = open_checkpoint(opened_->files, model.config().quantization);
    const LoadOptions quiet{{}, [](const std::string&) {}};
    WeightMeter meter(*checkpoint, backend, quiet);
    model.visit(meter);
    return meter.bytes;
  }

  /// The plan with `engine` changed so that it fits: fewer KV blocks, where their number was left open.
  MemoryPlan within(std::int64_t limit, const MemoryPlan& plan, Model& model, Backend& backend,
                    EngineOptions& engine) const {
    const std::int64_t fixed = *weights_ + plan.total() - plan.weights - plan.kv_total();
    const std::int64_t blocks = (limit - fixed) / plan.kv_block;
    const bool open = engine.kv_cache_bytes == 0 && engine.kv_cache_blocks == 0;
    if (limit <= fixed || blocks < 1 || (!open && blocks < plan.kv_blocks)) {
      throw Error(ErrorCode::out_of_memory,
                  fmt::format("{} takes {} of weights and step and {} of KV cache, more than the {} for all models",
                              opened_->files->origin(), mebibytes(fixed),
                              mebibytes(open ? plan.kv_block : plan.kv_total()), mebibytes(limit)),
                  "raise --models-memory, or lower the context or the KV cache's memory");
    }
    engine.kv_cache_blocks = std::min(plan.kv_blocks, blocks);
    engine.kv_cache_bytes = 0;  // the blocks say it now; both are refused
    return plan_memory(model, backend, engine);
  }

  const std::function<OpenedModel()> open_;
  std::optional<OpenedModel> opened_;  // as planned, until it is loaded
  std::optional<std::int64_t> weights_;
};

}  // namespace

std::unique_ptr<ModelSource> make_checkpoint_source(std::function<OpenedModel()> open) {
  return std::make_unique<CheckpointSource>(std::move(open));
}

}  // namespace bittern::server
