// Percentiles by hand, and bootstrap intervals against what theory and simulation say of them.
#include "quant/bootstrap.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "base/random.h"
#include "support/expect_error.h"

namespace bittern::quant {
namespace {

TEST(Percentile, InterpolatesBetweenNeighboursAsLlamaCppDoes) {
  const std::vector<double> values = {10, 20, 40, 80, 160};
  EXPECT_EQ(percentile(values, 0), 10);
  EXPECT_EQ(percentile(values, 1), 160);
  EXPECT_EQ(percentile(values, 0.5), 40);
  EXPECT_EQ(percentile(values, 0.25), 20);
  EXPECT_DOUBLE_EQ(percentile(values, 0.9), 0.4 * 80 + 0.6 * 160);  // position 3.6
  EXPECT_DOUBLE_EQ(percentile(values, 0.1), 0.6 * 10 + 0.4 * 20);   // position 0.4
}

TEST(Percentile, OfThousandAndOneValuesIsTheValueThere) {
  std::vector<double> values(1001);
  std::iota(values.begin(), values.end(), 0);
  for (const double fraction : {0.999, 0.99, 0.95, 0.9, 0.1, 0.05, 0.01}) {
    EXPECT_NEAR(percentile(values, fraction), 1000 * fraction, 1e-9);
  }
}

TEST(Percentile, OfFewValues) {
  EXPECT_TRUE(std::isnan(percentile({}, 0.5)));
  const std::vector<double> one = {7}, two = {1, 2};
  EXPECT_EQ(percentile(one, 0.99), 7);
  EXPECT_DOUBLE_EQ(percentile(two, 0.5), 1.5);
  EXPECT_EQ(percentile(two, -1), 1);
  EXPECT_EQ(percentile(two, 2), 2);
}

// `n` blocks of `weight` values around `mean`.
std::vector<BlockSum> normal_blocks(int n, double weight, double mean, std::uint64_t seed) {
  Random random(seed);
  std::vector<BlockSum> blocks;
  for (int i = 0; i < n; ++i) blocks.push_back({weight * (mean + random.next_normal()), weight});
  return blocks;
}

TEST(Bootstrap, IsAsWideAsTheStandardErrorSays) {
  const auto blocks = normal_blocks(200, 3, 5.0, 1);
  const Interval interval = bootstrap_ratio(blocks, {.resamples = 4000});
  EXPECT_TRUE(interval.known());
  EXPECT_LT(interval.low, ratio(blocks));
  EXPECT_GT(interval.high, ratio(blocks));
  EXPECT_NEAR(interval.high - interval.low, 2 * 1.96 / std::sqrt(200.0), 0.05);
}

TEST(Bootstrap, CoversTheTruthAboutAsOftenAsItPromises) {
  int covered = 0;
  for (std::uint64_t trial = 0; trial < 200; ++trial) {
    const Interval interval = bootstrap_ratio(normal_blocks(40, 1, 2.0, 100 + trial), {.resamples = 300, .level = 0.9});
    covered += interval.low <= 2.0 && 2.0 <= interval.high ? 1 : 0;
  }
  EXPECT_GE(covered, 165);  // 180 expected, less a little for 40 blocks; 3.5 standard deviations
  EXPECT_LE(covered, 195);
}

TEST(Bootstrap, OfADifferenceKnowsThatBlocksArePairs) {
  auto a = normal_blocks(50, 1, 0.0, 3);
  for (BlockSum& block : a) block.sum *= 10;
  auto b = a;
  for (BlockSum& block : b) block.sum -= 0.25;  // each block moved by the same
  const Interval interval = bootstrap_difference(a, b, {});
  EXPECT_NEAR(interval.low, 0.25, 1e-12);
  EXPECT_NEAR(interval.high, 0.25, 1e-12);
  EXPECT_GT(bootstrap_ratio(a, {}).high - bootstrap_ratio(a, {}).low, 3);  // although each alone is vague
}

TEST(Bootstrap, RepeatsToTheBitAndChangesWithTheSeed) {
  const auto blocks = normal_blocks(30, 2, 1.0, 9);
  const Interval first = bootstrap_ratio(blocks, {.seed = 5}), again = bootstrap_ratio(blocks, {.seed = 5});
  EXPECT_EQ(first.low, again.low);
  EXPECT_EQ(first.high, again.high);
  EXPECT_NE(bootstrap_ratio(blocks, {.seed = 6}).low, first.low);
}

TEST(Bootstrap, BlocksOfEqualValueHaveNoWidth) {
  const std::vector<BlockSum> blocks(10, {2, 4});
  const Interval interval = bootstrap_ratio(blocks, {});
  EXPECT_EQ(interval.low, 0.5);
  EXPECT_EQ(interval.high, 0.5);
}

TEST(Bootstrap, OneBlockTellsNothing) {
  const std::vector<BlockSum> one = {{1, 2}};
  EXPECT_FALSE(bootstrap_ratio(one, {}).known());
  EXPECT_TRUE(to_json(bootstrap_ratio(one, {})).is_null());
  EXPECT_FALSE(bootstrap_ratio({}, {}).known());
  EXPECT_TRUE(std::isnan(ratio({})));
}

TEST(Bootstrap, DrawsWithoutWeightAreLeftOut) {
  const std::vector<BlockSum> blocks = {{3, 1}, {0, 0}};
  const Interval interval = bootstrap_ratio(blocks, {});
  EXPECT_EQ(interval.low, 3);
  EXPECT_EQ(interval.high, 3);
}

TEST(Bootstrap, RefusesWhatMakesNoInterval) {
  const std::vector<BlockSum> blocks = {{1, 1}, {2, 1}};
  EXPECT_ERROR(ErrorCode::invalid_argument, "level", bootstrap_ratio(blocks, {.level = 1}));
  EXPECT_ERROR(ErrorCode::invalid_argument, "resamples", bootstrap_ratio(blocks, {.resamples = 0}));
}

}  // namespace
}  // namespace bittern::quant
