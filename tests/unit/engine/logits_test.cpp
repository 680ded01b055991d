// The loops over a row, against the standard library in double.
#include "engine/logits.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/random.h"

namespace bittern::engine {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<float> random_row(std::size_t n, std::uint64_t seed, float scale = 10.0f) {
  Random random(seed);
  std::vector<float> row(n);
  for (float& x : row) x = static_cast<float>(random.next_normal()) * scale;
  return row;
}

TEST(ExpNegative, IsWithinTwoUnitsInTheLastPlace) {
  double worst = 0;
  for (double x = -87.0; x <= 0.0; x += 1e-4) {
    const double exact = std::exp(static_cast<double>(static_cast<float>(x)));
    const double got = exp_negative(static_cast<float>(x));
    worst = std::max(worst, std::abs(got - exact) / exact);
  }
  EXPECT_LT(worst, 2 * std::numeric_limits<float>::epsilon());
}

TEST(ExpNegative, IsExactAtItsEnds) {
  EXPECT_EQ(exp_negative(0.0f), 1.0f);
  EXPECT_EQ(exp_negative(-87.5f), 0.0f);
  EXPECT_EQ(exp_negative(-kInfinity), 0.0f);
}

TEST(ScanRow, FindsTheLargestWhereverItIs) {
  for (std::size_t n : {1u, 7u, 16u, 33u, 1000u}) {
    for (std::size_t at = 0; at < n; ++at) {
      std::vector<float> row(n, -3.0f);
      row[at] = -1.0f;
      const RowScan scan = scan_row(row);
      ASSERT_EQ(scan.max, -1.0f) << n << " " << at;
      ASSERT_TRUE(scan.valid);
      ASSERT_EQ(first_with(row, scan.max), static_cast<std::int32_t>(at));
    }
  }
}

TEST(ScanRow, RefusesNanAndInfinityAnywhere) {
  for (float bad : {kNan, kInfinity}) {
    for (std::size_t at = 0; at < 37; ++at) {
      std::vector<float> row(37, 1.0f);
      row[at] = bad;
      ASSERT_FALSE(scan_row(row).valid) << bad << " at " << at;
    }
  }
  std::vector<float> row(37, 1.0f);
  row[20] = -kInfinity;  // a banned token is fine
  EXPECT_TRUE(scan_row(row).valid);
}

TEST(FirstWith, TakesTheLowestIdOfEquals) {
  const std::vector<float> row = {0, 5, 5, 1};
  EXPECT_EQ(first_with(row, scan_row(row).max), 1);
}

TEST(LogSumExp, EqualsTheSumInDouble) {
  for (std::size_t n : {1u, 15u, 1024u, 50001u}) {
    const std::vector<float> row = random_row(n, n);
    const double max = *std::max_element(row.begin(), row.end());
    double sum = 0;
    for (float x : row) sum += std::exp(x - max);
    EXPECT_NEAR(log_sum_exp(row, static_cast<float>(max)), max + std::log(sum), 1e-6) << n;
  }
}

TEST(SumExp, AppliesTheTemperature) {
  const std::vector<float> row = {0, std::log(2.0f), std::log(4.0f)};
  EXPECT_NEAR(sum_exp(row, row[2], 1.0f), 1 + 0.5 + 0.25, 1e-6);
  EXPECT_NEAR(sum_exp(row, row[2], 2.0f), 1 + 0.25 + 0.0625, 1e-6);  // temperature 0.5 squares the ratios
}

TEST(GatherAtLeast, KeepsOrderAndTheBorder) {
  const std::vector<float> row = random_row(1003, 3);
  std::vector<std::int32_t> expected, got;
  const float floor = row[500];
  for (std::size_t i = 0; i < row.size(); ++i) {
    if (row[i] >= floor) expected.push_back(static_cast<std::int32_t>(i));
  }
  gather_at_least(row, floor, got);
  EXPECT_EQ(got, expected);
}

TEST(MostLikely, EqualsAFullSort) {
  std::vector<float> row = random_row(2000, 9);
  for (std::size_t i = 0; i < row.size(); i += 3) row[i] = std::round(row[i]);  // plenty of ties
  std::vector<std::int32_t> order(row.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
    return row[static_cast<std::size_t>(a)] > row[static_cast<std::size_t>(b)];
  });
  for (int count : {0, 1, 5, 20, 100}) {
    const std::vector<TokenLogprob> best = most_likely(row, count, 2.0);
    ASSERT_EQ(best.size(), static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < best.size(); ++i) {
      ASSERT_EQ(best[i].token, order[i]) << i;
      ASSERT_FLOAT_EQ(best[i].logprob, row[static_cast<std::size_t>(order[i])] - 2.0f);
    }
  }
}

TEST(MostLikely, GivesNoMoreThanThereAre) {
  const std::vector<float> row = {1, 3, 2};
  const std::vector<TokenLogprob> best = most_likely(row, 10, 0.0);
  ASSERT_EQ(best.size(), 3u);
  EXPECT_EQ(best[0].token, 1);
  EXPECT_EQ(best[2].token, 0);
}

}  // namespace
}  // namespace bittern::engine
