// Confidence intervals by block bootstrap: blocks (windows of a text, documents, questions) are drawn with replacement
// and a figure is computed anew from each draw, so that what is correlated within a block stays together. The draws are
// functions of a seed: the same data give the same interval to the bit. It knows no figure of its own.
// Source: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), percentile intervals.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/json.h"

namespace bittern::quant {

struct BootstrapOptions {
  int resamples = 2000;
  double level = 0.95;
  std::uint64_t seed = 1;
};

/// Where a figure lies with the wished confidence. Fewer than two blocks tell nothing: then both ends are NaN.
struct Interval {
  double low = 0;
  double high = 0;
  bool known() const;
};

/// What one block adds to a figure that is a sum over a weight: NLL and tokens, right answers and questions.
struct BlockSum {
  double sum = 0;
  double weight = 0;
};

/// Value at `fraction` (0 to 1) of ascending values, interpolated linearly between neighbours as llama.cpp's perplexity
/// tool does: position fraction * (n - 1). NaN when there are none.
double percentile(std::span<const double> ascending, double fraction);

/// Interval of any figure: `figure` gets how often each of `blocks` blocks was drawn. Draws whose figure is NaN (no
/// weight in them) are left out. Error(invalid_argument) for a level outside (0, 1) or no resamples.
Interval bootstrap(std::size_t blocks, const BootstrapOptions& options,
                   const std::function<double(std::span<const std::int32_t> counts)>& figure);

/// sum(sum) / sum(weight), NaN without weight.
double ratio(std::span<const BlockSum> blocks);
/// Interval of ratio().
Interval bootstrap_ratio(std::span<const BlockSum> blocks, const BootstrapOptions& options);
/// Interval of ratio(a) - ratio(b), whose blocks are paired: the same windows or questions seen by two models.
Interval bootstrap_difference(std::span<const BlockSum> a, std::span<const BlockSum> b,
                              const BootstrapOptions& options);

/// {"low", "high"}, or null when it is not known.
Json to_json(const Interval& interval);

}  // namespace bittern::quant
