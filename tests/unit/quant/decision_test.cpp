// The four steps on made-up measurements: their order, the bars, stepping back, and what is recommended and why.
#include "quant/decision.h"

#include <gtest/gtest.h>

#include <limits>
#include <map>

#include "support/expect_error.h"

namespace bittern::quant {
namespace {

constexpr std::int64_t kGiB = std::int64_t{1} << 30;

/// A model that gains from each step as models do: by name, what is measured of it.
std::map<std::string, Measured> ordinary() {
  std::map<std::string, Measured> m;
  m["plain"] = {
      .kl = 0, .same_top = 1, .tasks = 0.94, .recall = 1, .peak_bytes = 8 * kGiB, .decode = 10, .batched = 40};
  m["kv int8"] = {.kl = 0.0002,
                  .same_top = 0.997,
                  .tasks = 0.94,
                  .recall = 1,
                  .peak_bytes = 6 * kGiB,
                  .decode = 10.1,
                  .batched = 50};
  m["w4"] = {
      .kl = 0.003, .same_top = 0.98, .tasks = 0.935, .recall = 1, .peak_bytes = 4 * kGiB, .decode = 25, .batched = 60};
  m["w4 + kv int8"] = {.kl = 0.0033,
                       .same_top = 0.98,
                       .tasks = 0.93,
                       .recall = 1,
                       .peak_bytes = 2 * kGiB,
                       .decode = 25.2,
                       .batched = 80};
  return m;
}

Decision decide(std::map<std::string, Measured> world, DecisionOptions options) {
  if (options.kv.empty()) options.kv = {"int8"};
  if (options.weights.empty()) options.weights = {"w4"};
  Decision decision(std::move(options));
  while (const auto candidate = decision.next()) {
    Measured measured = world.at(candidate->name());
    measured.candidate = *candidate;
    decision.add(std::move(measured));
  }
  return decision;
}

std::string recommended(const Decision& decision) {
  return decision.recommended() ? decision.recommended()->candidate.name() : "nothing";
}

TEST(Decision, TakesTheFourStepsInOrder) {
  const Decision decision = decide(ordinary(), {});
  std::vector<std::string> names;
  for (const DecisionStep& step : decision.path()) names.push_back(step.candidate.name());
  EXPECT_EQ(names, (std::vector<std::string>{"plain", "kv int8", "w4", "w4 + kv int8"}));
  EXPECT_EQ(recommended(decision), "w4 + kv int8");
}

TEST(Decision, LatencyPrefersTheEarlierStepWhenSpeedsAreEqualWithinTheMargin) {
  const Decision decision = decide(ordinary(), {.objective = Objective::latency});
  EXPECT_EQ(recommended(decision), "w4");
  EXPECT_NE(decision.reason().find("w4 + kv int8 is faster by less than 3.0 %"), std::string::npos)
      << decision.reason();
}

TEST(Decision, MemoryTakesTheSmallestThatPasses) {
  EXPECT_EQ(recommended(decide(ordinary(), {.objective = Objective::memory})), "w4 + kv int8");
}

TEST(Decision, StepsBackWhenTheKvCacheLosesTooMuch) {
  auto world = ordinary();
  world["kv int8"].recall = 0.4;
  const Decision decision = decide(world, {});
  EXPECT_EQ(recommended(decision), "w4");
  EXPECT_EQ(decision.path()[1].outcome, DecisionStep::Outcome::failed);
  EXPECT_NE(decision.path()[1].reason.find("recall fell from 100.0 % to 40.0 %"), std::string::npos);
  EXPECT_EQ(decision.path()[3].outcome, DecisionStep::Outcome::skipped);
  EXPECT_EQ(decision.measured().size(), 3U) << "what cannot pass is not measured";
}

TEST(Decision, StepsBackToTheKvCacheWhenWeightsLoseTooMuch) {
  auto world = ordinary();
  world["w4"].kl = 0.5;
  EXPECT_EQ(recommended(decide(world, {})), "kv int8");
}

TEST(Decision, StepsBackWhenOnlyBothTogetherFail) {
  auto world = ordinary();
  world["w4 + kv int8"].tasks = 0.5;
  const Decision decision = decide(world, {.objective = Objective::memory});
  EXPECT_EQ(recommended(decision), "w4");
}

TEST(Decision, StepsBackWhenALongGenerationFallsIntoLoops) {
  auto world = ordinary();
  world["plain"].repeat = 0.1;
  world["w4"].repeat = 0.4;
  const Decision decision = decide(world, {});
  EXPECT_EQ(recommended(decision), "kv int8");
  EXPECT_NE(decision.path()[2].reason.find("repeats 40.0 % of itself, plain 10.0 %"), std::string::npos);
}

TEST(Decision, StaysPlainUnderABarThatNothingElsePasses) {
  const Decision decision = decide(ordinary(), {.bar = {.max_kl = 0}});
  EXPECT_EQ(recommended(decision), "plain");
}

TEST(Decision, AStricterBarChangesTheChoice) {
  EXPECT_EQ(recommended(decide(ordinary(), {.bar = {.max_kl = 0.001}})), "kv int8");
}

TEST(Decision, TheMemoryLimitLeavesOutWhatDoesNotFit) {
  // Plain has become the fastest, and does not fit.
  auto world = ordinary();
  world["plain"].batched = 1000;
  EXPECT_EQ(recommended(decide(world, {})), "plain");
  const Decision decision = decide(world, {.memory_limit = 5 * kGiB});
  EXPECT_EQ(recommended(decision), "w4 + kv int8");
  EXPECT_NE(decision.path()[0].reason.find("over the limit of 5.00 GiB"), std::string::npos)
      << decision.path()[0].reason;
}

TEST(Decision, SaysWhatStandsInTheWayWhenNothingIsLeft) {
  const Decision decision = decide(ordinary(), {.bar = {.max_kl = 0.001}, .memory_limit = 5 * kGiB});
  EXPECT_EQ(recommended(decision), "nothing");
  EXPECT_NE(decision.reason().find("the smallest that passes is kv int8 with 6.00 GiB"), std::string::npos)
      << decision.reason();
  EXPECT_NE(decision.reason().find("the closest that fits is w4: KL 0.00300 is above 0.001"), std::string::npos)
      << decision.reason();
  const Decision tiny = decide(ordinary(), {.memory_limit = kGiB});
  EXPECT_NE(tiny.reason().find("nothing measured fits"), std::string::npos) << tiny.reason();
}

TEST(Decision, AFigureThatIsNotANumberFails) {
  auto world = ordinary();
  world["w4"].kl = std::numeric_limits<double>::quiet_NaN();
  const Decision decision = decide(world, {});
  EXPECT_EQ(decision.path()[2].outcome, DecisionStep::Outcome::failed);
}

TEST(Decision, TasksThatWereNotMeasuredDecideNothing) {
  auto world = ordinary();
  for (auto& [name, measured] : world) measured.tasks = measured.recall = std::nullopt;
  EXPECT_EQ(recommended(decide(world, {})), "w4 + kv int8");
}

TEST(Decision, TriesMoreCandidatesAndCombinesOnlyThoseThatPass) {
  auto world = ordinary();
  world["kv int4"] = {.kl = 0.2, .same_top = 0.8, .peak_bytes = 5 * kGiB, .batched = 55};
  world["w3"] = {.kl = 0.01, .same_top = 0.96, .tasks = 0.93, .recall = 1, .peak_bytes = 3 * kGiB, .batched = 70};
  world["w3 + kv int8"] = {
      .kl = 0.011, .same_top = 0.96, .tasks = 0.93, .recall = 1, .peak_bytes = kGiB, .decode = 20, .batched = 90};
  const Decision decision = decide(world, {.kv = {"int8", "int4"}, .weights = {"w4", "w3"}});
  EXPECT_EQ(recommended(decision), "w3 + kv int8");
  EXPECT_EQ(decision.measured().size(), 7U);
  EXPECT_EQ(decision.path().size(), 9U);
}

TEST(Decision, TheParetoFrontHasWhatNothingBeats) {
  auto world = ordinary();
  world["w4"].peak_bytes = 9 * kGiB;  // larger and worse than plain, yet faster
  world["kv int8"] = {.kl = 0.5, .same_top = 0.5, .peak_bytes = 9 * kGiB, .batched = 1};
  const Decision decision = decide(world, {});
  std::vector<std::string> names;
  for (const Measured* measured : decision.pareto()) names.push_back(measured->candidate.name());
  EXPECT_EQ(names, (std::vector<std::string>{"plain", "w4"}));
}

TEST(QualityBar, ReadsNamesAndNumbers) {
  EXPECT_EQ(quality_bar_from_text("strict").max_kl, 0.005);
  const QualityBar bar = quality_bar_from_text("kl=0.5,recall=0");
  EXPECT_EQ(bar.max_kl, 0.5);
  EXPECT_EQ(bar.max_recall_drop, 0);
  EXPECT_EQ(bar.min_same_top, QualityBar().min_same_top);
  EXPECT_EQ(to_text(quality_bar_from_text(to_text(bar))), to_text(bar));
}

TEST(QualityBar, RefusesWhatItCannotRead) {
  EXPECT_ERROR(ErrorCode::invalid_argument, "stric", quality_bar_from_text("stric"));
  EXPECT_ERROR(ErrorCode::invalid_argument, "kl=x", quality_bar_from_text("top1=0.9,kl=x"));
  EXPECT_ERROR(ErrorCode::invalid_argument, "top1=2", quality_bar_from_text("top1=2"));
  EXPECT_ERROR(ErrorCode::invalid_argument, "tasks=nan", quality_bar_from_text("tasks=nan"));
  EXPECT_ERROR(ErrorCode::invalid_argument, "''", quality_bar_from_text(""));
}

TEST(Decision, RefusesNamesGivenTwice) {
  EXPECT_ERROR(ErrorCode::invalid_argument, "int8 is twice", Decision({.kv = {"int8", "int8"}}));
  EXPECT_ERROR(ErrorCode::invalid_argument, "empty name", Decision({.weights = {""}}));
}

}  // namespace
}  // namespace bittern::quant
