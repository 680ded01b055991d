// The evaluation that ends a quantization: equal to running both models whole, planned, and refused by name.
#include "quant/evaluate.h"

#include "models/runner.h"
#include "quant/quality.h"
#include "quant/spill.h"
#include "quantize_fixture.h"

namespace bittern::quant {
namespace {

/// Tokens that look random and are the same on every run.
std::vector<std::int32_t> text_of(int tokens, int vocab) {
  std::vector<std::int32_t> ids;
  std::uint32_t state = 1;
  for (int i = 0; i < tokens; ++i) {
    state = state * 1664525u + 1013904223u;
    ids.push_back(static_cast<std::int32_t>(state >> 8) % vocab);
  }
  return ids;
}

struct Evaluate : QuantizeAwqFixture {
  Evaluate() {
    options.evaluation.name = "held.txt";
    options.evaluation.sha256 = "abc";
    options.evaluation.text = text_of(140, 40);
    options.evaluation.context = 32;
    options.evaluation.bos = 1;
  }
};

/// A whole model with a KV cache in f32.
struct WholeModel {
  explicit WholeModel(const fs::path& path)
      : backend(make_backend("cpu", {})), model(load_model(ModelFiles::from_directory(path), *backend)) {
    RunnerLimits limits;
    limits.max_tokens = 32, limits.max_sequences = 1, limits.max_logit_rows = 32;
    runner = std::make_unique<Runner>(*model, *backend, model->kv_spec(KvFormat::f32, 16), 2, limits);
    source = std::make_unique<RunnerSource>(*runner);
  }
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Model> model;
  std::unique_ptr<Runner> runner;
  std::unique_ptr<RunnerSource> source;
};

TEST_F(Evaluate, GivesWhatBothModelsGiveWhenTheyAreRunWhole) {
  for (const char* algorithm : {"awq", "rtn"}) {
    SCOPED_TRACE(algorithm);
    options.algorithm = algorithm;
    if (options.algorithm == "rtn") options.calibration = {};
    options.overwrite = true;
    const QuantizeReport report = run(TinyCheckpoint());
    ASSERT_TRUE(report.quality);
    const QualityReport& quality = *report.quality;

    WholeModel original(dir.path() / "in"), written(options.output);
    PplOptions ppl;
    ppl.context = 32, ppl.bos = 1;
    const KlResult expected = kl_divergence(*original.source, *written.source, options.evaluation.text, ppl);
    ASSERT_GT(expected.kl.mean, 1e-5) << "too little was lost to compare";
    EXPECT_EQ(quality.windows, 4);  // the last 12 tokens make none
    EXPECT_EQ(quality.tokens, expected.candidate.tokens);
    EXPECT_EQ(quality.context, 32);
    EXPECT_EQ(quality.bos, 1);
    EXPECT_NEAR(quality.kl, expected.kl.mean, 1e-4 * expected.kl.mean);
    EXPECT_NEAR(quality.kl_max, expected.max_kl, 1e-3 * expected.max_kl);
    EXPECT_NEAR(quality.perplexity, expected.candidate.perplexity(), 1e-5 * quality.perplexity);
    EXPECT_NEAR(quality.reference_perplexity, expected.reference.perplexity(), 1e-5 * quality.perplexity);
    EXPECT_EQ(quality.same_top, expected.same_top.mean);
    ASSERT_GE(quality.kl_percentiles.size(), 3u);
    double last = 0;
    for (const auto& [percent, kl] : quality.kl_percentiles) {
      EXPECT_GE(kl, last) << percent;
      EXPECT_LE(kl, quality.kl_max);
      last = kl;
    }
    EXPECT_EQ(quality.name, "held.txt");
    EXPECT_EQ(names_in(dir.path()), (std::vector<std::string>{"in", "out"}));  // nothing is left beside the output
  }
}

TEST_F(Evaluate, IsPlannedAndTellsProgressUpToTheEnd) {
  struct Sink : QuantizeSink {
    void plan(const QuantizePlan& p) override { planned = p; }
    void evaluating(std::int64_t done, std::int64_t of) override {
      EXPECT_EQ(done, last + 1);
      last = done, total = of;
    }
    QuantizePlan planned;
    std::int64_t last = 0, total = -1;
  } sink;
  options.evaluation.tokens = 100;
  const QuantizeReport report = quantize(write(TinyCheckpoint()), options, sink);
  EXPECT_EQ(sink.last, sink.total);
  EXPECT_EQ(sink.planned.evaluation_name, "held.txt");
  EXPECT_EQ(sink.planned.evaluation_windows, 3);
  EXPECT_EQ(sink.planned.evaluation_context, 32);
  EXPECT_EQ(sink.planned.evaluation_disk_bytes, 3 * 15 * 40 * 4);
  EXPECT_EQ(report.quality->tokens, 3 * 15);
}

TEST_F(Evaluate, AWindowIsNotLongerThanTheModelsContext) {
  options.evaluation.context = 512;
  options.evaluation.text = text_of(300, 40);
  const QuantizeReport report = run(TinyCheckpoint());  // made for 128
  EXPECT_EQ(report.quality->context, 128);
  EXPECT_EQ(report.quality->windows, 2);
}

TEST_F(Evaluate, ReportsWhyNothingWasMeasured) {
  options.evaluation = {};
  options.evaluation.absent = "there is no tokenizer";
  const QuantizeReport report = run(TinyCheckpoint());
  EXPECT_FALSE(report.quality);
  EXPECT_EQ(report.quality_absent, "there is no tokenizer");
  EXPECT_EQ(report.plan.evaluation_windows, 0);
}

TEST_F(Evaluate, AFailureSaysThatTheOutputIsWritten) {
  struct Sink : QuantizeSink {
    void evaluating(std::int64_t, std::int64_t) override { throw Error(ErrorCode::cancelled, "enough"); }
  } sink;
  EXPECT_ERROR(ErrorCode::cancelled, "is written, but comparing it with the original failed: enough",
               quantize(write(TinyCheckpoint()), options, sink));
  EXPECT_EQ(names_in(dir.path()), (std::vector<std::string>{"in", "out"}));
  EXPECT_TRUE(fs::exists(options.output / "config.json"));
}

TEST_F(Evaluate, BadTextIsRefusedBeforeTheWork) {
  const auto files = write(TinyCheckpoint());
  options.evaluation.text[7] = 40;
  EXPECT_ERROR(kInvalid, "id 40", run(files));
  options.evaluation.text = text_of(20, 40);
  EXPECT_ERROR(kInvalid, "the text has 20 tokens, one window takes 32", run(files));
  options.evaluation.text = text_of(64, 40);
  options.evaluation.tokens = -1;
  EXPECT_ERROR(kInvalid, "tokens is -1", run(files));
  EXPECT_EQ(names_in(dir.path()), (std::vector<std::string>{"in"}));
}

TEST_F(Evaluate, HoldsTheMemoryThatWasPlanned) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers have memory of their own";
#endif
  options.algorithm = "rtn", options.calibration = {};
  options.evaluation.text = text_of(256, 64);
  options.evaluation.context = 64;
  const auto files =
      write(TinyCheckpoint({.layers = 5, .hidden = 768, .ffn = 1536, .heads = 8, .kv_heads = 8, .vocab = 64}));
  const QuantizePlan plan = plan_quantize(files, options);
  EXPECT_EQ(plan.peak_at, "the evaluation");
  ASSERT_LT(plan.peak_bytes, plan.source_bytes) << "the plan holds both models";
  const std::int64_t grown = growth_of_a_run(files);
  RecordProperty("planned", std::to_string(plan.peak_bytes));
  RecordProperty("measured", std::to_string(grown));
  EXPECT_LE(grown, plan.peak_bytes + (4 << 20)) << "beside the plan: thread stacks, code pages and the allocator";
  EXPECT_GE(grown, plan.peak_bytes / 3) << "the plan promises far more than is used";
}

TEST(Spill, GivesBackWhatItTookAndLeavesNoName) {
  const TempDir dir;
  Spill spill(dir.path());
  const std::vector<float> first = {1, 2, 3}, second = {4, 5};
  spill.append(first);
  spill.append(second);
  std::vector<float> got(3);
  spill.read(2, got);
  EXPECT_EQ(got, (std::vector<float>{3, 4, 5}));
  EXPECT_EQ(spill.size(), 5);
  EXPECT_TRUE(fs::is_empty(dir.path()));
  EXPECT_ERROR(ErrorCode::io, "no/such/folder", Spill("no/such/folder"));
}

}  // namespace
}  // namespace bittern::quant
