// GPTQ and SmoothQuant over whole checkpoints, and folding: that it changes what is rounded and not what is computed.
#include <bittern/quantize.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <random>

#include "quant/calibrated_model.h"
#include "quant/folding.h"
#include "quant/smoothquant.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"
#include "tensor/checkpoint.h"
#include "tensor/model_files.h"
#include "tiny_checkpoint.h"

namespace bittern::quant {
namespace {

using bittern::testing::TempDir;
using bittern::testing::TinyCheckpoint;

Calibration calibration() {
  Calibration result;
  result.name = "test";
  result.search_tokens = 24;
  for (int s = 0; s < 8; ++s) {
    std::vector<std::int32_t> ids;
    for (int i = 0; i < 16; ++i) ids.push_back((s * 7 + i * (5 + s)) % 32);
    result.sequences.push_back(std::move(ids));
  }
  return result;
}

struct Fixture : ::testing::Test {
  Fixture() {
    options.output = dir.path() / "out", options.group_size = 32, options.overwrite = true;
    options.calibration = calibration();
  }
  std::shared_ptr<const ModelFiles> write(const TinyCheckpoint& checkpoint) {
    checkpoint.write(dir.path() / "in");
    return ModelFiles::from_directory(dir.path() / "in");
  }
  QuantizeReport run(const TinyCheckpoint& checkpoint) {
    QuantizeSink ignore;
    return quantize(write(checkpoint), options, ignore);
  }

  TempDir dir;
  QuantizeOptions options;
};

struct QuantizeGptq : Fixture {
  QuantizeGptq() { options.algorithm = "gptq"; }
};

TEST_F(QuantizeGptq, LosesLessThanRoundToNearestInEveryScheme) {
  for (const char* scheme : {"w4a16", "w4a16-sym-gptq", "w3a16", "w8a8"}) {
    options.scheme = scheme;
    options.group_size = options.scheme == "w8a8" ? -1 : 32;
    const QuantizeReport report = run(TinyCheckpoint());
    ASSERT_EQ(report.linears.size(), 14u);
    double before = 0, after = 0;
    for (const LinearReport& linear : report.linears) {
      EXPECT_NE(linear.notes.find("damping 0.01 of the mean diagonal"), std::string::npos) << linear.notes;
      EXPECT_GT(linear.loss_before, 0);
      before += linear.loss_before;
      after += linear.loss_after;
    }
    EXPECT_LT(after, (options.scheme == "w8a8" ? 1.0 : 0.8) * before) << scheme;
  }
}

TEST_F(QuantizeGptq, SkippedLinearsStayAndTheRestIsRounded) {
  options.skip = {"gate_proj", "o_proj"};
  const QuantizeReport report = run(TinyCheckpoint());
  EXPECT_EQ(report.linears.size(), 10u);
  for (const LinearReport& linear : report.linears) EXPECT_GE(linear.loss_after, 0) << linear.name;
}

TEST_F(QuantizeGptq, DeadChannelsAreReported) {
  TinyCheckpoint checkpoint({.dtype = DType::f32});
  checkpoint.values("model.layers.0.input_layernorm.weight")[3] = 0;
  const QuantizeReport report = run(checkpoint);
  EXPECT_NE(report.linears[0].notes.find("1 input channels are zero"), std::string::npos) << report.linears[0].notes;
  for (const LinearReport& linear : report.linears) EXPECT_TRUE(std::isfinite(linear.loss_after)) << linear.name;
}

TEST_F(QuantizeGptq, InputsThatAreNotFiniteAreRefusedByName) {
  TinyCheckpoint checkpoint({.dtype = DType::f32});
  checkpoint.values("model.layers.1.post_attention_layernorm.weight")[3] = std::numeric_limits<float>::infinity();
  EXPECT_ERROR(ErrorCode::invalid_checkpoint, "model.layers.1.mlp.gate_proj", run(checkpoint));
}

struct QuantizeSmooth : Fixture {
  QuantizeSmooth() { options.algorithm = "smoothquant", options.scheme = "w8a8", options.group_size = -1; }
};

TEST_F(QuantizeSmooth, LosesLessWhereAChannelIsFarLargerThanTheOthers) {
  TinyCheckpoint checkpoint;
  for (const char* norm : {"input_layernorm", "post_attention_layernorm"}) {
    for (const int layer : {0, 1})
      checkpoint.values("model.layers." + std::to_string(layer) + "." + norm + ".weight")[7] = 60;
  }
  for (const LinearReport& linear : run(checkpoint).linears) {
    EXPECT_LE(linear.loss_after, 1.1 * linear.loss_before) << linear.name;
    const bool after_norm =
        linear.name.find("down") == std::string::npos && linear.name.find("o_proj") == std::string::npos;
    if (!after_norm) continue;
    EXPECT_LT(linear.loss_after, 0.5 * linear.loss_before) << linear.name << ": " << linear.notes;
    EXPECT_NE(linear.notes.find("alpha 0."), std::string::npos) << linear.notes;
  }
}

TEST_F(QuantizeSmooth, IsRefusedForSchemesWithoutInt8Activations) {
  options.scheme = "w4a16", options.group_size = 32;
  EXPECT_ERROR(ErrorCode::invalid_argument, "'w4a16' does not", run(TinyCheckpoint()));
}

TEST(SmoothingScales, FollowTheFormulaAndSkipDeadChannels) {
  const std::vector<float> scales =
      smoothing_scales(std::vector<float>{16, 1, 0, 4}, std::vector<float>{1, 4, 1, 0}, 0.5F);
  EXPECT_FLOAT_EQ(scales[0] / scales[1], 4.0F / 0.5F);
  EXPECT_FLOAT_EQ(scales[0] * scales[1], 1.0F);
  EXPECT_EQ(scales[2], 1.0F);
  EXPECT_EQ(scales[3], 1.0F);
}

/// One layer with nothing behind it: what folding asks for.
class OneLayer final : public LayerWork {
 public:
  OneLayer(std::shared_ptr<const ModelFiles> files, const Calibration& calibration)
      : checkpoint_(open_checkpoint(files, Json())), calibrated_(files, calibration, 1), pool_(1) {
    tasks_ = select_linears(calibrated_.model().model(), {}).linears;
    std::erase_if(tasks_, [](const LinearTask& task) { return task.layer != 0; });
  }
  std::span<const LinearTask> linears() const override { return tasks_; }
  std::int64_t group_size() const override { return -1; }
  GroupLayout layout(const LinearTask&) const override { return {8, -1, true, DType::bf16, true}; }
  ThreadPool& pool() override { return pool_; }
  int layer() const override { return 0; }
  const Checkpoint& checkpoint() const override { return *checkpoint_; }
  CalibratedModel* calibrated() override { return &calibrated_; }
  Weight load(const LinearTask& linear) override { return to_f32(checkpoint_->dense(linear.name + ".weight")); }
  void store(const LinearTask&, const Weight&, const Weight&, const StoreNotes&) override {}
  void replace(const std::string& tensor, Weight value) override {
    replaced.insert_or_assign(tensor, std::move(value));
  }

  std::map<std::string, Weight> replaced;

 private:
  std::unique_ptr<Checkpoint> checkpoint_;
  CalibratedModel calibrated_;
  ThreadPool pool_;
  std::vector<LinearTask> tasks_;
};

struct BindNorms final : nn::Visitor {
  explicit BindNorms(OneLayer& work) : layer(work) {}
  void linear(const std::string&, nn::Linear&) override {}
  void embedding(const std::string&, nn::Embedding&) override {}
  void norm(const std::string& name, nn::RmsNorm& leaf) override {
    const auto found = layer.replaced.find(name + ".weight");
    if (found == layer.replaced.end()) return;
    leaf.bind(layer.calibrated()->backend().prepare_vector(found->second, leaf.offset()));
    ++bound;
  }
  OneLayer& layer;
  int bound = 0;
};

TEST(Folding, LeavesWhatTheLayerComputes) {
  TempDir dir;
  TinyCheckpoint({.dtype = DType::f32}).write(dir.path());
  const Calibration data = calibration();
  OneLayer work(ModelFiles::from_directory(dir.path()), data);
  CalibratedModel& model = *work.calibrated();
  model.model().load_layer(0);
  LayerFolding folding(work);
  std::mt19937 generator(1);
  std::uniform_real_distribution<float> exponent(-2, 2);
  std::vector<std::vector<float>> before;
  int folded = 0;
  for (int branch = 0; branch < model.model().model().branches(); ++branch) {
    GroupProbe probe(0, work.pool());
    before.emplace_back(model.hidden().size());
    model.run(model.chunks().front(), 0, branch, before.back().data(), &probe);
    for (const ScaleGroup& group : probe.groups()) {
      ASSERT_EQ(folding.obstacle(group), "");
      std::vector<float> factors;
      for (std::int64_t i = 0; i < group.width; ++i) factors.push_back(std::exp2(exponent(generator)));
      folding.fold(group, shared_by_row(
                              group, [&](std::int64_t c) { return factors[static_cast<std::size_t>(c)]; },
                              [](std::span<const double> values) { return values.front(); }));
      ++folded;
      for (const nn::Linear* linear : group.linears) EXPECT_FALSE(folding.of(linear).columns.empty());
    }
    for (const ScaleGroup& group : probe.groups()) {
      for (const nn::Linear* linear : group.linears) {
        Treatment& treatment = folding.of(linear);
        Weight weight = work.load(*treatment.task);
        folding.multiply(weight, treatment, false);
        treatment.leaf->exchange(folding.prepare(*linear, weight));
      }
    }
  }
  EXPECT_EQ(folded, 4);  // q k v, o, gate up, down
  BindNorms norms(work);
  model.model().model().visit_layer(norms, 0);
  EXPECT_EQ(norms.bound, 2);
  for (std::size_t branch = 0; branch < before.size(); ++branch) {
    std::vector<float> after(before[branch].size());
    model.run(model.chunks().front(), 0, static_cast<int>(branch), after.data());
    double energy = 0, difference = 0;
    for (std::size_t i = 0; i < after.size(); ++i) {
      energy += static_cast<double>(before[branch][i]) * static_cast<double>(before[branch][i]);
      difference += std::pow(static_cast<double>(after[i] - before[branch][i]), 2);
    }
    EXPECT_GT(energy, 0);
    EXPECT_LT(difference, 1e-9 * energy);
  }
}

TEST(Folding, RefusesASecondGroupOverTheSameNormOrLinear) {
  TempDir dir;
  TinyCheckpoint({.dtype = DType::f32}).write(dir.path());
  const Calibration data = calibration();
  OneLayer work(ModelFiles::from_directory(dir.path()), data);
  CalibratedModel& model = *work.calibrated();
  model.model().load_layer(0);
  LayerFolding folding(work);
  GroupProbe probe(0, work.pool());
  std::vector<float> ignored(model.hidden().size());
  model.run(model.chunks().front(), 0, 0, ignored.data(), &probe);
  ASSERT_EQ(probe.groups().size(), 2u);  // q k v behind the norm, o behind v
  const char* sources[] = {"model.layers.0.input_layernorm feeds", "model.layers.0.self_attn.v_proj feeds"};
  for (std::size_t i = 0; i < 2; ++i) {
    const ScaleGroup& group = probe.groups()[i];
    EXPECT_EQ(folding.obstacle(group), "");
    folding.fold(group, std::vector<float>(static_cast<std::size_t>(group.width), 2.0F));
    EXPECT_ERROR(ErrorCode::unsupported, sources[i], folding.obstacle(group));
    EXPECT_ERROR(ErrorCode::unsupported, sources[i],
                 folding.fold(group, std::vector<float>(static_cast<std::size_t>(group.width), 2.0F)));
  }
}

}  // namespace
}  // namespace bittern::quant
