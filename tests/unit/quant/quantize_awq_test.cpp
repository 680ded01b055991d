// AWQ over a whole checkpoint: what it loses, what it guards and what it needs.
#include <cmath>

#include "quantize_fixture.h"

namespace bittern::quant {
namespace {

using QuantizeAwq = QuantizeAwqFixture;

TEST_F(QuantizeAwq, LosesNoMoreThanRoundToNearestOnItsOwnTokens) {
  const QuantizeReport report = run(TinyCheckpoint());
  ASSERT_EQ(report.linears.size(), 14u);
  double before = 0, after = 0;
  for (const LinearReport& linear : report.linears) {
    EXPECT_GE(linear.loss_before, 0) << linear.name;
    EXPECT_GE(linear.loss_after, 0) << linear.name;
    before += linear.loss_before;
    after += linear.loss_after;
  }
  EXPECT_LT(after, before);
  EXPECT_EQ(report.plan.calibration_tokens, 64);
  EXPECT_EQ(names_in(dir.path()), (std::vector<std::string>{"in", "out"}));
}

TEST_F(QuantizeAwq, DeadChannelsAreReportedAndDoNotPoison) {
  TinyCheckpoint checkpoint({.dtype = DType::f32});
  checkpoint.values("model.layers.0.input_layernorm.weight")[3] = 0;
  const QuantizeReport report = run(checkpoint);
  EXPECT_NE(report.linears[0].notes.find("1 input channels are zero"), std::string::npos) << report.linears[0].notes;
  for (const LinearReport& linear : report.linears) EXPECT_TRUE(std::isfinite(linear.loss_after)) << linear.name;
}

TEST_F(QuantizeAwq, GroupsWithASkippedLinearAreNotScaled) {
  options.skip = {"gate_proj"};
  for (const LinearReport& linear : run(TinyCheckpoint()).linears) {
    const bool shares = linear.name.ends_with("up_proj");
    EXPECT_EQ(linear.notes.find("shares the input") != std::string::npos, shares) << linear.name;
  }
}

TEST_F(QuantizeAwq, CalibrationIsNeededAndOnlyWhereItIs) {
  const auto files = write(TinyCheckpoint());
  Calibration kept = std::move(options.calibration);
  options.calibration = {};
  EXPECT_ERROR(kInvalid, "needs calibration data", run(files));
  options.calibration = std::move(kept), options.algorithm = "rtn";
  EXPECT_ERROR(kInvalid, "looks at no data", run(files));
  options.algorithm = "awq", options.calibration.sequences[0][0] = 1 << 20;
  EXPECT_ERROR(kInvalid, "outside the vocabulary", run(files));
}

}  // namespace
}  // namespace bittern::quant
