// Figures are functions of per-window sums (ratios of two sums) so that one bootstrap serves all; percentiles sort a
// copy of the positions. Nothing here runs a model.
#include "quant/quality_summary.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"

namespace bittern::quant {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kKlFractions[] = {0.999, 0.99, 0.95, 0.90, 0.50, 0.10, 0.05, 0.01};
constexpr double kDeltaFractions[] = {0.999, 0.99, 0.95, 0.90, 0.75, 0.50, 0.25, 0.10, 0.05, 0.01, 0.001};

using Positions = std::span<const KlPosition>;

/// Mean of `value` over all positions, with the standard error of independent terms: sqrt(variance / (n - 1)).
template <class Value>
Estimate mean_of(Positions positions, Value value) {
  const auto n = static_cast<double>(positions.size());
  double mean = 0, squares = 0, count = 0;
  for (const KlPosition& position : positions) {
    const double x = value(position), delta = x - mean;
    mean += delta / ++count;
    squares += delta * (x - mean);
  }
  return {mean, n < 2 ? 0.0 : std::sqrt(squares / n / (n - 1))};
}

/// Sums of `value` by window; windows without positions are there with weight 0, so that pairs stay pairs.
template <class Value>
std::vector<BlockSum> by_window(Positions positions, std::int64_t windows, Value value) {
  std::vector<BlockSum> blocks(static_cast<std::size_t>(windows));
  for (const KlPosition& position : positions) {
    BlockSum& block = blocks[static_cast<std::size_t>(position.window)];
    block.sum += value(position);
    block.weight += 1;
  }
  return blocks;
}

/// The mean of one value of the positions as a Figure.
template <class Value>
Figure mean_figure(Positions positions, std::int64_t windows, const BootstrapOptions& options, Value value) {
  const Estimate estimate = mean_of(positions, value);
  return {estimate.mean, estimate.error, bootstrap_ratio(by_window(positions, windows, value), options)};
}

template <class Value, std::size_t kCount>
std::vector<Percentile> percentiles(Positions positions, const double (&fractions)[kCount], Value value) {
  std::vector<double> values;
  for (const KlPosition& position : positions) values.push_back(value(position));
  std::sort(values.begin(), values.end());
  std::vector<Percentile> list;
  for (const double fraction : fractions) list.push_back({fraction, percentile(values, fraction)});
  return list;
}

/// Of a monotone function of a figure.
template <class Function>
Interval mapped(const Interval& interval, Function function) {
  return {function(interval.low), function(interval.high)};
}

/// Covariance of the two mean NLLs, as llama.cpp has it.
double nll_covariance(Positions positions, double reference_mean, double candidate_mean) {
  const auto n = static_cast<double>(positions.size());
  double sum = 0;
  for (const KlPosition& p : positions) sum += (p.reference_nll - reference_mean) * (p.candidate_nll - candidate_mean);
  return n < 2 ? 0.0 : sum / n / (n - 1);
}

void add_perplexities(const KlResult& result, const BootstrapOptions& options, KlSummary& summary) {
  summary.reference_perplexity = perplexity_figure(result.reference, options);
  summary.candidate_perplexity = perplexity_figure(result.candidate, options);
  const auto change = [](const KlPosition& p) { return p.candidate_nll - p.reference_nll; };
  summary.log_ratio = mean_figure(result.positions, result.reference.windows, options, change);
  const auto exponential = [](double x) { return std::exp(x); };
  const double ratio = std::exp(summary.log_ratio.value);
  summary.ratio = {ratio, ratio * summary.log_ratio.error, mapped(summary.log_ratio.interval, exponential)};

  const Estimate &base = result.reference.nll, &candidate = result.candidate.nll;
  const double covariance = nll_covariance(result.positions, base.mean, candidate.mean);
  const double q = result.candidate.perplexity(), p = result.reference.perplexity();
  const double variance =
      q * q * candidate.error * candidate.error + p * p * base.error * base.error - 2 * p * q * covariance;
  const std::vector<BlockSum>&a = result.candidate.window_nll, &b = result.reference.window_nll;
  const auto difference = [&](std::span<const std::int32_t> counts) {
    double sum_a = 0, sum_b = 0, weight = 0;
    for (std::size_t i = 0; i < counts.size(); ++i) {
      sum_a += counts[i] * a[i].sum, sum_b += counts[i] * b[i].sum, weight += counts[i] * a[i].weight;
    }
    return std::exp(sum_a / weight) - std::exp(sum_b / weight);
  };
  summary.difference = {q - p, std::sqrt(std::max(variance, 0.0)), bootstrap(a.size(), options, difference)};
  const double spread = base.error * candidate.error;
  summary.correlation = spread > 0 ? covariance / spread : kNaN;
}

void add_divergence(const KlResult& result, const BootstrapOptions& options, KlSummary& summary) {
  const auto kl = [](const KlPosition& p) { return p.kl; };
  summary.kl = mean_figure(result.positions, result.reference.windows, options, kl);
  summary.max_kl = result.max_kl;
  summary.min_kl = *std::min_element(result.position_kl.begin(), result.position_kl.end());
  summary.kl_percentiles = percentiles(result.positions, kKlFractions, kl);
  summary.same_top = mean_figure(result.positions, result.reference.windows, options,
                                 [](const KlPosition& p) { return p.same_top ? 1.0 : 0.0; });
}

void add_probabilities(const KlResult& result, const BootstrapOptions& options, KlSummary& summary) {
  const auto delta = [](const KlPosition& p) { return p.delta_p; };
  summary.delta_p = mean_figure(result.positions, result.reference.windows, options, delta);
  const Figure square = mean_figure(result.positions, result.reference.windows, options,
                                    [](const KlPosition& p) { return p.delta_p * p.delta_p; });
  const double rms = std::sqrt(square.value);
  summary.rms_delta_p = {rms, rms > 0 ? 0.5 / rms * square.error : 0.0,
                         mapped(square.interval, [](double x) { return std::sqrt(x); })};
  summary.delta_p_percentiles = percentiles(result.positions, kDeltaFractions, delta);
  const auto [low, high] = std::minmax_element(result.positions.begin(), result.positions.end(),
                                               [](auto& a, auto& b) { return a.delta_p < b.delta_p; });
  summary.min_delta_p = low->delta_p, summary.max_delta_p = high->delta_p;
}

PositionBucket bucket(const std::vector<KlPosition>& positions, std::int64_t begin, std::int64_t end,
                      std::int64_t windows, const BootstrapOptions& options) {
  return {begin,
          end,
          std::ssize(positions),
          mean_figure(positions, windows, options, [](auto& p) { return p.kl; }),
          mean_figure(positions, windows, options, [](auto& p) { return p.same_top ? 1.0 : 0.0; }),
          mean_figure(positions, windows, options, [](auto& p) { return p.candidate_nll - p.reference_nll; })};
}

std::vector<PositionBucket> curve(const KlResult& result, const BootstrapOptions& options, int buckets) {
  const auto [low, high] = std::minmax_element(result.positions.begin(), result.positions.end(),
                                               [](auto& a, auto& b) { return a.index < b.index; });
  const std::int64_t first = low->index, count = high->index - first + 1;
  const std::int64_t used = std::min<std::int64_t>(buckets, count);
  std::vector<std::vector<KlPosition>> parts(static_cast<std::size_t>(used));
  const auto edge = [&](std::int64_t b) { return first + (b * count + used - 1) / used; };
  for (const KlPosition& p : result.positions) {
    parts[static_cast<std::size_t>((p.index - first) * used / count)].push_back(p);
  }
  std::vector<PositionBucket> list;
  for (std::int64_t b = 0; b < used; ++b) {
    const auto& part = parts[static_cast<std::size_t>(b)];
    if (!part.empty()) list.push_back(bucket(part, edge(b), edge(b + 1), result.reference.windows, options));
  }
  return list;
}

Json number(double value) { return std::isfinite(value) ? Json(value) : Json(); }

Json to_json(const std::vector<Percentile>& percentiles, double low, double high) {
  Json json = {{"max", high}, {"min", low}};
  for (const Percentile& p : percentiles) json[percent_name(p.fraction)] = p.value;
  return json;
}

Json to_json(const PositionBucket& bucket) {
  return {{"begin", bucket.begin},
          {"end", bucket.end},
          {"positions", bucket.positions},
          {"kl", to_json(bucket.kl)},
          {"same_top", to_json(bucket.same_top)},
          {"log_ratio", to_json(bucket.log_ratio)}};
}

}  // namespace

Figure perplexity_figure(const PplResult& result, const BootstrapOptions& options) {
  return {result.perplexity(), result.perplexity_error(),
          mapped(bootstrap_ratio(result.window_nll, options), [](double x) { return std::exp(x); })};
}

KlSummary summarize(const KlResult& result, const BootstrapOptions& options, int buckets) {
  BITTERN_CHECK(!result.positions.empty());
  KlSummary summary;
  add_perplexities(result, options, summary);
  add_divergence(result, options, summary);
  add_probabilities(result, options, summary);
  if (buckets > 0) summary.curve = curve(result, options, buckets);
  return summary;
}

Json to_json(const Figure& figure) {
  return {{"value", number(figure.value)},
          {"standard_error", number(figure.error)},
          {"interval", to_json(figure.interval)}};
}

Json to_json(const KlSummary& summary) {
  Json buckets = Json::array();
  for (const PositionBucket& bucket : summary.curve) buckets.push_back(to_json(bucket));
  return {{"reference_perplexity", to_json(summary.reference_perplexity)},
          {"candidate_perplexity", to_json(summary.candidate_perplexity)},
          {"log_perplexity_ratio", to_json(summary.log_ratio)},
          {"perplexity_ratio", to_json(summary.ratio)},
          {"perplexity_difference", to_json(summary.difference)},
          {"correlation", number(summary.correlation)},
          {"kl", to_json(summary.kl)},
          {"kl_percentiles", to_json(summary.kl_percentiles, summary.min_kl, summary.max_kl)},
          {"delta_p", to_json(summary.delta_p)},
          {"delta_p_percentiles", to_json(summary.delta_p_percentiles, summary.min_delta_p, summary.max_delta_p)},
          {"rms_delta_p", to_json(summary.rms_delta_p)},
          {"same_top", to_json(summary.same_top)},
          {"curve", std::move(buckets)}};
}

std::string percent_name(double fraction) {
  std::string text = std::to_string(100 * fraction);  // six decimals
  text.erase(text.find_last_not_of('0') + 1);
  if (text.ends_with('.')) text.pop_back();
  return text;
}

}  // namespace bittern::quant
