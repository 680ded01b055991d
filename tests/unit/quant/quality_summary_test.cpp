// The figures of a comparison against positions made by hand, and against llama.cpp's formulas written out.
#include "quant/quality_summary.h"

#include <gtest/gtest.h>

#include <cmath>

namespace bittern::quant {
namespace {

struct Seen {
  double kl, reference_p, candidate_p;
  bool same_top = true;
};

/// A result as kl_divergence() would leave it: `width` positions a window, from index `first` on.
KlResult make_result(const std::vector<Seen>& seen, int width, int first = 0) {
  KlResult result;
  double sum_p = 0, sum_q = 0, squares_p = 0, squares_q = 0;
  for (std::size_t i = 0; i < seen.size(); ++i) {
    const double p = -std::log(seen[i].reference_p), q = -std::log(seen[i].candidate_p);
    const int window = static_cast<int>(i) / width;
    if (static_cast<int>(i) % width == 0) {
      result.reference.window_nll.emplace_back();
      result.candidate.window_nll.emplace_back();
    }
    result.reference.window_nll.back().sum += p, result.reference.window_nll.back().weight += 1;
    result.candidate.window_nll.back().sum += q, result.candidate.window_nll.back().weight += 1;
    sum_p += p, sum_q += q, squares_p += p * p, squares_q += q * q;
    result.positions.push_back({window, first + static_cast<int>(i) % width, seen[i].kl,
                                seen[i].candidate_p - seen[i].reference_p, p, q, seen[i].same_top});
    result.position_kl.push_back(seen[i].kl);
    result.max_kl = std::max(result.max_kl, seen[i].kl);
  }
  const auto n = static_cast<double>(seen.size());
  for (PplResult* ppl : {&result.reference, &result.candidate}) {
    ppl->windows = std::ssize(ppl->window_nll);
    ppl->tokens = std::ssize(seen);
  }
  const auto estimate = [&](double sum, double squares) {
    return Estimate{sum / n, std::sqrt(std::max(squares / n - sum / n * sum / n, 0.0) / (n - 1))};
  };
  result.reference.nll = estimate(sum_p, squares_p);
  result.candidate.nll = estimate(sum_q, squares_q);
  return result;
}

double value(const std::vector<Percentile>& percentiles, double fraction) {
  for (const Percentile& p : percentiles) {
    if (p.fraction == fraction) return p.value;
  }
  return std::nan("");
}

TEST(KlSummary, PercentilesOfAKnownDistribution) {
  std::vector<Seen> seen;
  for (int i = 1000; i >= 0; --i) seen.push_back({i / 1000.0, 0.5, 0.5 + (i - 500) / 2000.0});  // in falling order
  const KlSummary summary = summarize(make_result(seen, 7), {.resamples = 50});
  for (const double f : {0.999, 0.99, 0.95, 0.9, 0.5, 0.1, 0.05, 0.01}) {
    EXPECT_NEAR(value(summary.kl_percentiles, f), f, 1e-12);
  }
  EXPECT_EQ(summary.max_kl, 1);
  EXPECT_EQ(summary.min_kl, 0);
  EXPECT_NEAR(summary.kl.value, 0.5, 1e-12);
  for (const double f : {0.999, 0.99, 0.95, 0.9, 0.75, 0.5, 0.25, 0.1, 0.05, 0.01, 0.001}) {
    EXPECT_NEAR(value(summary.delta_p_percentiles, f), (f - 0.5) / 2, 1e-12);
  }
  EXPECT_NEAR(summary.max_delta_p, 0.25, 1e-12);
  EXPECT_NEAR(summary.min_delta_p, -0.25, 1e-12);
}

TEST(KlSummary, RmsMeanAndAgreement) {
  const KlSummary summary = summarize(make_result({{0.1, 0.5, 0.8}, {0.2, 0.5, 0.1, false}}, 1), {.resamples = 200});
  EXPECT_NEAR(summary.delta_p.value, (0.3 - 0.4) / 2, 1e-12);
  EXPECT_NEAR(summary.rms_delta_p.value, std::sqrt((0.09 + 0.16) / 2), 1e-12);
  EXPECT_EQ(summary.same_top.value, 0.5);
  // llama.cpp: 0.5 / rms * sqrt((E[d^4] - E[d^2]^2) / (n - 1)).
  const double spread = (0.09 * 0.09 + 0.16 * 0.16) / 2 - 0.125 * 0.125;
  EXPECT_NEAR(summary.rms_delta_p.error, 0.5 / std::sqrt(0.125) * std::sqrt(spread), 1e-12);
}

TEST(KlSummary, PerplexitiesAndTheirRatioByLlamaCppsFormulas) {
  const std::vector<Seen> seen = {{0, 0.5, 0.4}, {0, 0.25, 0.3}, {0, 0.9, 0.7}, {0, 0.1, 0.15}, {0, 0.6, 0.2}};
  const KlSummary summary = summarize(make_result(seen, 2), {.resamples = 100});
  double p = 0, q = 0, pp = 0, qq = 0, pq = 0;
  for (const Seen& s : seen) {
    const double a = -std::log(s.reference_p), b = -std::log(s.candidate_p);
    p += a / 5, q += b / 5, pp += a * a / 5, qq += b * b / 5, pq += a * b / 5;
  }
  const double var_p = (pp - p * p) / 4, var_q = (qq - q * q) / 4, covariance = (pq - p * q) / 4;
  EXPECT_NEAR(summary.reference_perplexity.value, std::exp(p), 1e-12);
  EXPECT_NEAR(summary.candidate_perplexity.value, std::exp(q), 1e-12);
  EXPECT_NEAR(summary.correlation, covariance / std::sqrt(var_p * var_q), 1e-12);
  EXPECT_NEAR(summary.log_ratio.value, q - p, 1e-12);
  EXPECT_NEAR(summary.log_ratio.error, std::sqrt(var_p + var_q - 2 * covariance), 1e-12);
  EXPECT_NEAR(summary.ratio.value, std::exp(q - p), 1e-12);
  EXPECT_NEAR(summary.ratio.error, std::exp(q - p) * summary.log_ratio.error, 1e-12);
  EXPECT_NEAR(summary.difference.value, std::exp(q) - std::exp(p), 1e-12);
  const double a = std::exp(q), b = std::exp(p);
  EXPECT_NEAR(summary.difference.error, std::sqrt(a * a * var_q + b * b * var_p - 2 * a * b * covariance), 1e-12);
}

TEST(KlSummary, TheCurveGroupsPositionsByTheirPlaceInTheWindow) {
  // 3 windows of 8 positions from index 8 on; KL grows with the index.
  std::vector<Seen> seen;
  for (int w = 0; w < 3; ++w) {
    for (int i = 0; i < 8; ++i) seen.push_back({i + 0.1 * w, 0.5, 0.25, i < 4});
  }
  const KlSummary summary = summarize(make_result(seen, 8, 8), {.resamples = 200}, 4);
  ASSERT_EQ(summary.curve.size(), 4u);
  for (int b = 0; b < 4; ++b) {
    const PositionBucket& bucket = summary.curve[static_cast<std::size_t>(b)];
    EXPECT_EQ(bucket.begin, 8 + 2 * b);
    EXPECT_EQ(bucket.end, 10 + 2 * b);
    EXPECT_EQ(bucket.positions, 6);
    EXPECT_NEAR(bucket.kl.value, 2 * b + 0.5 + 0.1, 1e-12);
    EXPECT_EQ(bucket.same_top.value, b < 2 ? 1 : 0);
    EXPECT_NEAR(bucket.log_ratio.value, std::log(2.0), 1e-12);
    // Blocks are windows: their means in a bucket are 0.1 apart, so no draw leaves this range.
    EXPECT_GE(bucket.kl.interval.low, 2 * b + 0.5 - 1e-12);
    EXPECT_LE(bucket.kl.interval.high, 2 * b + 0.7 + 1e-12);
  }
}

TEST(KlSummary, UnevenBucketsCoverEveryPositionOnce) {
  std::vector<Seen> seen(10, {1, 0.5, 0.5});
  const KlResult result = make_result(seen, 10, 3);
  for (const int buckets : {1, 3, 4, 7, 10, 50}) {
    const KlSummary summary = summarize(result, {.resamples = 2}, buckets);
    EXPECT_EQ(std::ssize(summary.curve), std::min(buckets, 10));
    std::int64_t next = 3, positions = 0;
    for (const PositionBucket& bucket : summary.curve) {
      EXPECT_EQ(bucket.begin, next);
      EXPECT_EQ(bucket.end - bucket.begin, bucket.positions);
      next = bucket.end, positions += bucket.positions;
    }
    EXPECT_EQ(next, 13);
    EXPECT_EQ(positions, 10);
  }
  EXPECT_TRUE(summarize(result, {.resamples = 2}, 0).curve.empty());
}

TEST(KlSummary, OneWindowHasNoIntervalsAndSaysSo) {
  const Json json = to_json(summarize(make_result({{0.1, 0.5, 0.4}, {0.2, 0.5, 0.4}}, 2), {}));
  EXPECT_TRUE(json["kl"]["interval"].is_null());
  EXPECT_TRUE(json["perplexity_ratio"]["interval"].is_null());
  EXPECT_TRUE(json["correlation"].is_null());  // NLLs that do not vary
  EXPECT_NEAR(json["kl"]["value"].get<double>(), 0.15, 1e-12);
  EXPECT_TRUE(json["kl_percentiles"].contains("99.9"));
  EXPECT_TRUE(json["delta_p_percentiles"].contains("0.1"));
}

TEST(KlSummary, NamesOfPercentiles) {
  EXPECT_EQ(percent_name(0.999), "99.9");
  EXPECT_EQ(percent_name(0.5), "50");
  EXPECT_EQ(percent_name(0.001), "0.1");
  EXPECT_EQ(percent_name(1), "100");
}

}  // namespace
}  // namespace bittern::quant
