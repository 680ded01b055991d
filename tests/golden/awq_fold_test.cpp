// AWQ's folding proved on float logits: the layer is searched as usual, but instead of codes the scaled float weights
// and the changed norms and biases are kept. The model made of them must give the logits of the original.
#include <gtest/gtest.h>

#include <map>

#include "golden/golden_case.h"
#include "models/runner.h"
#include "quant/algorithm.h"
#include "quant/awq.h"
#include "quant/calibrated_model.h"
#include "support/temp_dir.h"
#include "tensor/safetensors.h"

namespace bittern::golden {
namespace {

using quant::LinearTask;

/// A layer whose results are floats: what AWQ would round, as it was before rounding.
class FloatLayer final : public quant::LayerWork {
 public:
  FloatLayer(int layer, std::vector<LinearTask> linears, const Checkpoint& checkpoint, quant::CalibratedModel& model,
             std::map<std::string, Weight>& results)
      : layer_(layer), linears_(std::move(linears)), checkpoint_(checkpoint), model_(model), results_(results) {}

  std::span<const LinearTask> linears() const override { return linears_; }
  std::int64_t group_size() const override { return 8; }
  quant::GroupLayout layout(const LinearTask&) const override { return {3, 8, false, DType::f32, false}; }
  ThreadPool& pool() override { return pool_; }
  int layer() const override { return layer_; }
  const Checkpoint& checkpoint() const override { return checkpoint_; }
  quant::CalibratedModel* calibrated() override { return &model_; }
  Weight load(const LinearTask& linear) override {
    std::vector<std::string> used;
    Weight weight = to_f32(checkpoint_.linear(linear.name, used));
    weight.name = linear.name;
    return weight;
  }
  void store(const LinearTask& linear, const Weight& original, const Weight&, const quant::StoreNotes&) override {
    results_[linear.name + ".weight"] = original;
  }
  void replace(const std::string& tensor, Weight value) override { results_[tensor] = std::move(value); }

 private:
  int layer_;
  std::vector<LinearTask> linears_;
  const Checkpoint& checkpoint_;
  quant::CalibratedModel& model_;
  std::map<std::string, Weight>& results_;
  ThreadPool pool_{2};
};

/// The checkpoint with `changed` tensors in place of its own, all in f32.
void write_f32(const std::filesystem::path& dir, const Checkpoint& source,
               const std::map<std::string, Weight>& changed) {
  std::vector<TensorSpec> specs;
  for (const TensorEntry& entry : source.entries()) specs.push_back({entry.name, DType::f32, entry.shape});
  SafetensorsWriter writer(dir / "model.safetensors", specs);
  for (const TensorEntry& entry : source.entries()) {
    const auto found = changed.find(entry.name);
    const Weight f = to_f32(found == changed.end() ? source.dense(entry.name) : found->second);
    writer.write(entry.name, {f.data.as<const std::byte>(), static_cast<std::size_t>(f.bytes())});
  }
  writer.finish();
}

std::vector<float> logits_of(const std::shared_ptr<const ModelFiles>& files, std::span<const std::int32_t> ids) {
  const auto backend = make_backend("ref", {});
  const auto model = load_model(files, *backend);
  Runner runner(*model, *backend, model->kv_spec(KvFormat::f32, 16), 8, {static_cast<int>(ids.size()), 1, 64});
  SingleSequence sequence(runner);
  std::vector<float> all;
  sequence.feed(ids, std::vector<bool>(ids.size(), true),
                [&](std::int64_t, std::span<const float> row) { all.insert(all.end(), row.begin(), row.end()); });
  return all;
}

class AwqFold : public ::testing::TestWithParam<std::string> {};

TEST_P(AwqFold, LeavesFloatLogitsAsTheyWere) {
  const auto files = ModelFiles::from_directory(models_folder() / GetParam());
  const ModelConfig config = load_config(*files);
  if (!config.quantization.is_null()) GTEST_SKIP() << "an already quantized checkpoint";
  const std::vector<Prompt> prompts = load_prompts(GetParam());
  quant::Calibration calibration;
  calibration.search_tokens = 32;
  for (const Prompt& prompt : prompts) {
    const auto most = std::min(prompt.ids.size(), static_cast<std::size_t>(config.max_positions));
    calibration.sequences.emplace_back(prompt.ids.begin(), prompt.ids.begin() + static_cast<std::ptrdiff_t>(most));
  }
  quant::CalibratedModel calibrated(files, calibration, 2);
  const auto checkpoint = open_checkpoint(files, Json());
  const quant::Selection selection = quant::select_linears(*build_model(config), {});
  std::map<std::string, Weight> changed;
  for (int layer = 0; layer < config.layers; ++layer) {
    std::vector<LinearTask> linears;
    for (const LinearTask& task : selection.linears) {
      if (task.layer == layer) linears.push_back(task);
    }
    FloatLayer work(layer, std::move(linears), *checkpoint, calibrated, changed);
    quant::run_awq(work);
  }
  EXPECT_GT(changed.size(), selection.linears.size()) << "no norm was scaled: the test shows nothing";

  bittern::testing::TempDir dir;
  write_f32(dir.path(), *checkpoint, changed);
  std::filesystem::copy_file(models_folder() / GetParam() / "config.json", dir.path() / "config.json");
  const auto folded = ModelFiles::from_directory(dir.path());
  for (const Prompt& prompt : prompts) {
    const Distance d = distance(logits_of(folded, prompt.ids), logits_of(files, prompt.ids));
    EXPECT_LE(d.norm, 2e-6);
    EXPECT_LE(d.largest, 2e-6);
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, AwqFold, ::testing::ValuesIn(case_names()));

}  // namespace
}  // namespace bittern::golden
