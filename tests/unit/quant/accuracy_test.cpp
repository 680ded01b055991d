// Counting right answers by group, the intervals beside them, and what a second model changed.
#include "quant/accuracy.h"

#include <gtest/gtest.h>

#include <cmath>

namespace bittern::quant {
namespace {

std::vector<Answer> answers(const std::string& group, const std::string& pattern) {
  std::vector<Answer> list;
  for (const char c : pattern) list.push_back({group, c == '1', std::nullopt});
  return list;
}

TEST(Accuracy, CountsByGroupInTheOrderOfTheFile) {
  std::vector<Answer> all = answers("sums", "110");
  for (const Answer& answer : answers("facts", "01")) all.push_back(answer);
  all.push_back({"sums", true, std::nullopt});
  const auto groups = score_groups(all, {}, {});
  ASSERT_EQ(groups.size(), 2u);
  EXPECT_EQ(groups[0].group, "sums");
  EXPECT_EQ(groups[0].accuracy.right, 3);
  EXPECT_EQ(groups[0].accuracy.total, 4);
  EXPECT_EQ(groups[1].accuracy.value(), 0.5);
  const GroupScore sum = score_all(all, {}, {});
  EXPECT_EQ(sum.accuracy.right, 4);
  EXPECT_EQ(sum.accuracy.total, 6);
  EXPECT_FALSE(sum.change);
  EXPECT_FALSE(sum.nll);
}

TEST(Accuracy, WhereAllAnswersAreAlikeTheIntervalIsWilsons) {
  const GroupScore all = score_all(answers("a", "11111111"), {}, {});
  EXPECT_EQ(all.accuracy.interval.high, 1);
  EXPECT_NEAR(all.accuracy.interval.low, 8 / (8 + 1.959963984540054 * 1.959963984540054), 1e-12);
  EXPECT_LT(score_all(answers("a", "0000"), {}, {}).accuracy.interval.high, 0.6);
  const Interval mixed = score_all(answers("a", "1100"), {}, {}).accuracy.interval;
  EXPECT_LT(mixed.low, 0.5);
  EXPECT_GT(mixed.high, 0.5);
}

TEST(Accuracy, WilsonAgreesWithItsDefinition) {
  // The ends p solve |x - p| = z sqrt(p (1 - p) / n).
  for (const auto& [right, total] : {std::pair(7, 20), std::pair(1, 3), std::pair(99, 100)}) {
    const Interval interval = wilson(right, total);
    for (const double p : {interval.low, interval.high}) {
      const double x = static_cast<double>(right) / total;
      EXPECT_NEAR(std::abs(x - p), 1.959963984540054 * std::sqrt(p * (1 - p) / total), 1e-12);
    }
  }
  EXPECT_FALSE(wilson(0, 0).known());
}

TEST(Accuracy, ChangeIsOfPairs) {
  const auto candidate = answers("a", "110010"), reference = answers("a", "111100");
  const GroupScore all = score_all(candidate, reference, {});
  ASSERT_TRUE(all.change);
  EXPECT_EQ(all.change->lost, 2);
  EXPECT_EQ(all.change->gained, 1);
  EXPECT_NEAR(all.change->difference.value, 3.0 / 6 - 4.0 / 6, 1e-12);
  // The same answers: no doubt about a difference of 0, however unsure each accuracy is.
  const GroupScore same = score_all(candidate, candidate, {});
  EXPECT_EQ(same.change->difference.interval.low, 0);
  EXPECT_EQ(same.change->difference.interval.high, 0);
}

TEST(Accuracy, NllIsAveragedAndCompared) {
  const std::vector<Answer> candidate = {{"a", true, 1.0}, {"a", false, 3.0}},
                            reference = {{"a", true, 0.5}, {"a", true, 2.5}};
  const GroupScore all = score_all(candidate, reference, {});
  EXPECT_EQ(all.nll->value, 2);
  EXPECT_EQ(all.change->reference_nll->value, 1.5);
  EXPECT_EQ(all.change->nll_difference->value, 0.5);
  EXPECT_NEAR(all.change->nll_difference->interval.low, 0.5, 1e-12);
  const Json json = to_json(all);
  EXPECT_EQ(json["nll"]["value"], 2);
  EXPECT_EQ(json["reference"]["right"], 2);
  EXPECT_EQ(json["lost"], 1);
}

}  // namespace
}  // namespace bittern::quant
