// The layer-wise pass over every golden case: one layer's weights at a time, all prompts side by side as sequences of
// one batch, and the reference's logits at the end. Also what the probe is told about where factors can be folded.
#include "models/layerwise.h"

#include <gtest/gtest.h>

#include <map>
#include <numeric>

#include "golden/golden_case.h"
#include "nn/linear.h"

namespace bittern::golden {
namespace {

class Layerwise : public ::testing::TestWithParam<std::string> {};

std::vector<float> run_layers(LayerwiseModel& model, LayerwisePass& pass, std::span<const std::int32_t> ids) {
  std::vector<float> hidden(ids.size() * static_cast<std::size_t>(model.config().hidden));
  model.load_outside();
  pass.embed(ids, hidden.data());
  for (int layer = 0; layer < model.config().layers; ++layer) {
    model.load_layer(layer);
    pass.forward_layer(layer, hidden.data());
    model.drop_layer(layer);
  }
  return hidden;
}

TEST_P(Layerwise, LogitsEqualTheReference) {
  const auto files = ModelFiles::from_directory(models_folder() / GetParam());
  const auto backend = make_backend("cpu", {});
  LayerwiseModel model(files, *backend);
  std::vector<Prompt> prompts = load_prompts(GetParam());
  std::vector<std::int32_t> ids, lengths;
  for (const Prompt& prompt : prompts) {
    ids.insert(ids.end(), prompt.ids.begin(), prompt.ids.end());
    lengths.push_back(static_cast<std::int32_t>(prompt.ids.size()));
  }
  LayerwisePass pass(model, static_cast<int>(ids.size()), static_cast<int>(lengths.size()));
  pass.set_sequences(lengths);
  const std::vector<float> hidden = run_layers(model, pass, ids);
  std::int32_t row = 0;
  for (const Prompt& prompt : prompts) {
    std::vector<float> logits;
    for (std::size_t i = 0; i < prompt.ids.size(); ++i, ++row) {
      const std::vector<std::int32_t> rows = {row};
      const std::span<const float> out = pass.logits(hidden.data(), rows);
      logits.insert(logits.end(), out.begin(), out.end());
    }
    const Distance d = distance(logits, prompt.logits);
    EXPECT_LE(d.norm, 1e-4);
    EXPECT_LE(d.largest, 1e-4);
  }
}

struct FoldProbe final : nn::Probe {
  void linear_input(const nn::Linear& linear, const Tensor& x) override {
    EXPECT_TRUE(sources.contains(x.data));
    EXPECT_EQ(sources[x.data], linear.in()) << "a source covers every channel of the input";
    ++linears;
  }
  void kv(int, const Tensor&, const Tensor&) override {}
  void norm_output(const nn::RmsNorm& norm, const Tensor& x) override { sources[x.data] = norm.width(); }
  void channel_source(const Tensor& x, const nn::Linear& producer, std::span<const std::int64_t> rows) override {
    for (const std::int64_t row : rows) EXPECT_TRUE(row >= 0 && row < producer.out());
    sources[x.data] = static_cast<std::int64_t>(rows.size());
  }
  std::map<const void*, std::int64_t> sources;
  int linears = 0;
};

TEST_P(Layerwise, EveryInputOfALinearHasASource) {
  const auto files = ModelFiles::from_directory(models_folder() / GetParam());
  const auto backend = make_backend("ref", {});
  LayerwiseModel model(files, *backend);
  LayerwisePass pass(model, 4);
  std::vector<float> hidden(static_cast<std::size_t>(4 * model.config().hidden), 1.0F);
  model.load_layer(0);
  FoldProbe probe;
  pass.forward_layer(0, hidden.data(), &probe);
  EXPECT_GE(probe.linears, 4);
}

INSTANTIATE_TEST_SUITE_P(Cases, Layerwise, ::testing::ValuesIn(case_names()));

}  // namespace
}  // namespace bittern::golden
