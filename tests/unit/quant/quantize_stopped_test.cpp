// What is left when quantize() is stopped by bad weights, by its sink or by a kill, and how the next run goes on.
#include <limits>

#include "quantize_fixture.h"

namespace bittern::quant {
namespace {

using QuantizeStopped = QuantizeFixture;
using QuantizeResumed = QuantizeAwqFixture;

TEST_F(QuantizeStopped, ByABadWeightLeavesNothing) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    TinyCheckpoint checkpoint;
    checkpoint.values("model.layers.1.mlp.up_proj.weight")[64 * 7 + 40] = bad;
    EXPECT_ERROR(ErrorCode::invalid_checkpoint, "model.layers.1.mlp.up_proj: output 7, group 1", run(checkpoint));
    EXPECT_EQ(names_in(dir.path()), (std::vector<std::string>{"in"}));
  }
}

TEST_F(QuantizeStopped, ByAScaleThatOverflowsF16LeavesNothing) {
  TinyCheckpoint checkpoint({.dtype = DType::f32});
  checkpoint.values("model.layers.0.self_attn.v_proj.weight")[0] = 1e7f;
  EXPECT_ERROR(ErrorCode::invalid_checkpoint, "model.layers.0.self_attn.v_proj: output 0, group 0", run(checkpoint));
  EXPECT_EQ(names_in(dir.path()), (std::vector<std::string>{"in"}));
}

TEST_F(QuantizeStopped, ByTheSinkLeavesNothing) {
  struct Sink : QuantizeSink {
    void progress(const QuantizeProgress& p) override {
      if (p.layer == 1) throw Error(ErrorCode::cancelled, "enough");
    }
  } sink;
  EXPECT_ERROR(ErrorCode::cancelled, "enough", quantize(write(TinyCheckpoint()), options, sink));
  EXPECT_EQ(names_in(dir.path()), (std::vector<std::string>{"in"}));
}

TEST_F(QuantizeStopped, ByKillLeavesNoOutputAndTheNextRunSucceedsAndTellsOfIt) {
  const auto files = write(TinyCheckpoint());
  const pid_t child = run_killed_after_a_layer(files);
  EXPECT_FALSE(fs::exists(options.output));
  const fs::path left = options.output.string() + ".partial-" + std::to_string(child);
  ASSERT_TRUE(fs::exists(left));
  EXPECT_FALSE(fs::exists(left / "config.json"));  // no program takes it for a model
  EXPECT_EQ(run(files).plan.leftovers, std::vector<fs::path>{left});
  EXPECT_TRUE(fs::exists(options.output / "config.json"));
}

TEST_F(QuantizeStopped, ASecondRunToTheSameOutputIsRefusedWhileTheFirstIsAtWork) {
  const auto files = write(TinyCheckpoint());
  struct Sink : QuantizeSink {
    QuantizeStopped& test;
    const std::shared_ptr<const ModelFiles>& files;
    int refused = 0;
    Sink(QuantizeStopped& t, const std::shared_ptr<const ModelFiles>& f) : test(t), files(f) {}
    void progress(const QuantizeProgress&) override {
      if (refused++ > 0) return;
      EXPECT_ERROR(kInvalid, "another run (process " + std::to_string(getpid()) + ") is writing to", test.run(files));
    }
  } sink(*this, files);
  quantize(files, options, sink);
  EXPECT_GT(sink.refused, 1);
  EXPECT_EQ(names_in(dir.path()), (std::vector<std::string>{"in", "out"}));  // the lock is gone too
}

TEST_F(QuantizeResumed, AKilledRunGoesOnAfterItsLastLayerAndWritesTheSameBytes) {
  const auto files = write(TinyCheckpoint());
  run(files);
  const std::string expected = read_text(options.output / "model.safetensors");
  fs::remove_all(options.output);
  run_killed_after_a_layer(files);
  EXPECT_TRUE(fs::exists(dir.path() / "out.resume"));
  EXPECT_TRUE(fs::exists(dir.path() / "out.lock"));  // the file, which nobody holds any more
  const QuantizeReport report = run(files);
  EXPECT_EQ(report.resumed_layers, 1);
  EXPECT_EQ(report.linears.size(), 14u);
  EXPECT_EQ(read_text(options.output / "model.safetensors"), expected);
  for (const char* left : {"out.resume", "out.lock"}) EXPECT_FALSE(fs::exists(dir.path() / left)) << left;
}

TEST_F(QuantizeResumed, TheStateOfAnotherJobIsRefused) {
  struct Sink : QuantizeSink {
    void progress(const QuantizeProgress& p) override {
      if (p.layer == 1) throw Error(ErrorCode::cancelled, "enough");
    }
  } sink;
  const auto files = write(TinyCheckpoint());
  EXPECT_ERROR(ErrorCode::cancelled, "enough", quantize(files, options, sink));
  options.calibration.sequences[0][0] ^= 1;
  EXPECT_ERROR(kInvalid, "state of another quantization", run(files));
  options.calibration.sequences[0][0] ^= 1;
  EXPECT_EQ(run(files).resumed_layers, 1);
}

}  // namespace
}  // namespace bittern::quant
