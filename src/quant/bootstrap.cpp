// The draws: one Philox stream a resample, so that resample r is the same whatever came before it.
#include "quant/bootstrap.h"

#include <bittern/error.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "base/random.h"

namespace bittern::quant {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

void check(const BootstrapOptions& options) {
  if (!(options.level > 0 && options.level < 1)) {
    throw Error(ErrorCode::invalid_argument,
                "the confidence level is " + std::to_string(options.level) + ", it must lie between 0 and 1");
  }
  if (options.resamples < 1) {
    throw Error(ErrorCode::invalid_argument, "bootstrap with " + std::to_string(options.resamples) + " resamples",
                "1,000 or more give steady intervals");
  }
}

double ratio_of(std::span<const BlockSum> blocks, std::span<const std::int32_t> counts) {
  double sum = 0, weight = 0;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    sum += counts[i] * blocks[i].sum;
    weight += counts[i] * blocks[i].weight;
  }
  return weight > 0 ? sum / weight : kNaN;
}

}  // namespace

bool Interval::known() const { return std::isfinite(low) && std::isfinite(high); }

double percentile(std::span<const double> ascending, double fraction) {
  if (ascending.empty()) return kNaN;
  const double position = std::clamp(fraction, 0.0, 1.0) * static_cast<double>(ascending.size() - 1);
  const auto below = static_cast<std::size_t>(position);
  const double share = position - static_cast<double>(below);
  if (share == 0) return ascending[below];
  return (1 - share) * ascending[below] + share * ascending[below + 1];
}

Interval bootstrap(std::size_t blocks, const BootstrapOptions& options,
                   const std::function<double(std::span<const std::int32_t> counts)>& figure) {
  check(options);
  if (blocks < 2) return {kNaN, kNaN};
  std::vector<double> figures;
  std::vector<std::int32_t> counts(blocks);
  for (int resample = 0; resample < options.resamples; ++resample) {
    Random random(options.seed, static_cast<std::uint64_t>(resample));
    std::fill(counts.begin(), counts.end(), 0);
    for (std::size_t i = 0; i < blocks; ++i) ++counts[random.next_below(static_cast<std::uint32_t>(blocks))];
    const double value = figure(counts);
    if (!std::isnan(value)) figures.push_back(value);
  }
  std::sort(figures.begin(), figures.end());
  const double tail = (1 - options.level) / 2;
  return {percentile(figures, tail), percentile(figures, 1 - tail)};
}

double ratio(std::span<const BlockSum> blocks) { return ratio_of(blocks, std::vector<std::int32_t>(blocks.size(), 1)); }

Interval bootstrap_ratio(std::span<const BlockSum> blocks, const BootstrapOptions& options) {
  return bootstrap(blocks.size(), options,
                   [&](std::span<const std::int32_t> counts) { return ratio_of(blocks, counts); });
}

Interval bootstrap_difference(std::span<const BlockSum> a, std::span<const BlockSum> b,
                              const BootstrapOptions& options) {
  BITTERN_CHECK(a.size() == b.size());
  return bootstrap(a.size(), options,
                   [&](std::span<const std::int32_t> counts) { return ratio_of(a, counts) - ratio_of(b, counts); });
}

Json to_json(const Interval& interval) {
  return interval.known() ? Json{{"low", interval.low}, {"high", interval.high}} : Json();
}

}  // namespace bittern::quant
