// TokenDraw: the sets that filters leave, compared with sorting everything; frequencies, compared with the
// distribution.
#include "engine/token_draw.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>

#include "base/random.h"
#include "engine/logits.h"

namespace bittern::engine {
namespace {

float max_of(const std::vector<float>& row) { return *std::max_element(row.begin(), row.end()); }

std::vector<float> random_row(std::size_t n, std::uint64_t seed, double scale) {
  Random random(seed);
  std::vector<float> row(n);
  for (float& x : row) x = static_cast<float>(random.next_normal() * scale);
  return row;
}

// The textbook: sort, filter, renormalize. Probability of each token.
std::vector<double> textbook(const std::vector<float>& row, const SamplingParams& p) {
  std::vector<std::size_t> order(row.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return row[a] > row[b]; });
  std::vector<double> weight(row.size());
  for (std::size_t i = 0; i < row.size(); ++i) weight[i] = std::exp((row[i] - row[order[0]]) / p.temperature);
  std::size_t kept = p.top_k > 0 ? std::min(static_cast<std::size_t>(p.top_k), row.size()) : row.size();
  if (p.top_p < 1.0) {
    double total = 0, sum = 0;
    for (std::size_t i = 0; i < kept; ++i) total += weight[order[i]];
    std::size_t i = 0;
    while (i < kept && sum < p.top_p * total) sum += weight[order[i++]];
    kept = i;
  }
  while (kept > 1 && weight[order[kept - 1]] < p.min_p) --kept;
  double mass = 0;
  for (std::size_t i = 0; i < kept; ++i) mass += weight[order[i]];
  std::vector<double> probability(row.size());
  for (std::size_t i = 0; i < kept; ++i) probability[order[i]] = weight[order[i]] / mass;
  return probability;
}

// Frequencies of `draws` uniform numbers spread evenly over [0, 1): exact up to one draw per token.
void expect_matches_textbook(const std::vector<float>& row, const SamplingParams& p, int draws) {
  const std::vector<double> expected = textbook(row, p);
  TokenDraw draw(static_cast<std::int64_t>(row.size()));
  std::vector<int> count(row.size());
  for (int i = 0; i < draws; ++i) {
    ++count[static_cast<std::size_t>(draw.draw(row, max_of(row), p, (i + 0.5) / draws))];
  }
  for (std::size_t t = 0; t < row.size(); ++t) {
    ASSERT_NEAR(count[t], expected[t] * draws, 1.01) << "token " << t;
  }
}

TEST(TokenDraw, FollowsTheTextbookForEveryCombinationOfFilters) {
  for (double scale : {0.01, 1.0, 6.0}) {  // flat, ordinary and peaked rows: both tiers of candidates
    const std::vector<float> row = random_row(200, 17, scale);
    for (double temperature : {0.3, 1.0, 3.0}) {
      for (int top_k : {0, 1, 5, 150, 1000}) {
        for (double top_p : {1.0, 0.95, 0.5, 1e-9}) {
          for (double min_p : {0.0, 0.05, 1.0}) {
            SamplingParams p;
            p.temperature = temperature;
            p.top_k = top_k;
            p.top_p = top_p;
            p.min_p = min_p;
            SCOPED_TRACE(::testing::Message() << "scale " << scale << " temperature " << temperature << " top_k "
                                              << top_k << " top_p " << top_p << " min_p " << min_p);
            ASSERT_NO_FATAL_FAILURE(expect_matches_textbook(row, p, 500));
          }
        }
      }
    }
  }
}

TEST(TokenDraw, TiesAtTheCutGoToTheLowerId) {
  const std::vector<float> row = {0, 1, 1, 1, 0};
  SamplingParams p;
  p.top_k = 2;
  TokenDraw draw(5);
  std::set<std::int32_t> seen;
  for (int i = 0; i < 100; ++i) seen.insert(draw.draw(row, 1.0f, p, i / 100.0));
  EXPECT_EQ(seen, (std::set<std::int32_t>{1, 2}));
}

TEST(TokenDraw, TopPKeepsTheTokenThatCrossesTheBorder) {
  const std::vector<float> row = {std::log(0.5f), std::log(0.3f), std::log(0.2f)};
  SamplingParams p;
  TokenDraw draw(3);
  const auto kept = [&](double top_p) {
    p.top_p = top_p;
    std::set<std::int32_t> seen;
    for (int i = 0; i < 100; ++i) seen.insert(draw.draw(row, row[0], p, i / 100.0));
    return seen.size();
  };
  EXPECT_EQ(kept(0.45), 1u);
  EXPECT_EQ(kept(0.55), 2u);
  EXPECT_EQ(kept(0.79), 2u);
  EXPECT_EQ(kept(0.81), 3u);
}

TEST(TokenDraw, TopPOfTopKIsRelativeToWhatTopKLeft) {
  // Of {0.4, 0.3, 0.2, 0.1}, top_k = 2 leaves 4/7 and 3/7: top_p = 0.55 keeps one, though 0.4 < 0.55.
  const std::vector<float> row = {std::log(0.4f), std::log(0.3f), std::log(0.2f), std::log(0.1f)};
  SamplingParams p;
  p.top_k = 2;
  p.top_p = 0.55;
  TokenDraw draw(4);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(draw.draw(row, row[0], p, i / 100.0), 0);
}

TEST(TokenDraw, NeverDrawsABannedToken) {
  std::vector<float> row(100, -std::numeric_limits<float>::infinity());
  row[40] = 1.0f;
  row[60] = 0.5f;
  for (int top_k : {0, 50}) {
    SamplingParams p;
    p.top_k = top_k;
    TokenDraw draw(100);
    for (int i = 0; i < 1000; ++i) {
      const std::int32_t token = draw.draw(row, 1.0f, p, i / 1000.0);
      ASSERT_TRUE(token == 40 || token == 60);
    }
  }
}

TEST(TokenDraw, TheEndsOfTheUniformRangeAreTokens) {
  const std::vector<float> row = random_row(1000, 2, 2.0);
  SamplingParams p;
  TokenDraw draw(1000);
  EXPECT_EQ(draw.draw(row, max_of(row), p, 0.0), 0);
  EXPECT_EQ(draw.draw(row, max_of(row), p, std::nextafter(1.0, 0.0)), 999);
}

TEST(TokenDraw, ALowTemperatureIsGreedyAndDoesNotOverflow) {
  std::vector<float> row = random_row(1000, 4, 30.0);
  SamplingParams p;
  p.temperature = 1e-5;
  TokenDraw draw(1000);
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(draw.draw(row, max_of(row), p, i / 100.0), first_with(row, max_of(row)));
  }
}

// Pearson's chi-square over real random numbers; 30 equal-mass bins would be 29 degrees of freedom, tokens here differ.
TEST(TokenDraw, RandomDrawsPassChiSquare) {
  const std::vector<float> row = random_row(40, 8, 1.0);
  SamplingParams p;
  p.temperature = 0.8;
  p.top_p = 0.9;
  const std::vector<double> expected = textbook(row, p);
  TokenDraw draw(40);
  Random random(123);
  constexpr int kDraws = 200000;
  std::vector<int> count(40);
  for (int i = 0; i < kDraws; ++i)
    ++count[static_cast<std::size_t>(draw.draw(row, max_of(row), p, random.next_double()))];
  double chi = 0;
  int bins = 0;
  for (std::size_t t = 0; t < 40; ++t) {
    if (expected[t] == 0) {
      ASSERT_EQ(count[t], 0);
      continue;
    }
    ++bins;
    chi += std::pow(count[t] - expected[t] * kDraws, 2) / (expected[t] * kDraws);
  }
  const double freedom = bins - 1;
  EXPECT_LT(chi, freedom + 4 * std::sqrt(2 * freedom));  // four deviations
  EXPECT_GT(bins, 10);
}

}  // namespace
}  // namespace bittern::engine
