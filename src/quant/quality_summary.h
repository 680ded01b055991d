// What a comparison of two models says in figures: perplexities and their ratio, KL divergence, the change of the right
// token's probability, agreement, and curves over the position in the context. The definitions are those of llama.cpp's
// perplexity tool, so that its tables can be compared; beside its standard errors, which take positions as independent,
// stand block bootstrap intervals over windows, which do not.
#pragma once

#include <string>
#include <vector>

#include "quant/quality.h"

namespace bittern::quant {

/// A figure, its standard error as llama.cpp states it (NaN where it states none) and its interval over blocks.
struct Figure {
  double value = 0;
  double error = 0;
  Interval interval;
};

struct Percentile {
  double fraction = 0;
  double value = 0;
};

/// Perplexity with both kinds of error.
Figure perplexity_figure(const PplResult& result, const BootstrapOptions& bootstrap);

/// Mean KL and agreement of the positions [begin, end) of their windows.
struct PositionBucket {
  std::int64_t begin = 0, end = 0;
  std::int64_t positions = 0;
  Figure kl;         // nats per position
  Figure same_top;   // fraction
  Figure log_ratio;  // mean NLL of the candidate minus the reference's
};

struct KlSummary {
  Figure reference_perplexity, candidate_perplexity;
  Figure log_ratio;        // mean ln(PPL(candidate) / PPL(reference))
  Figure ratio;            // PPL(candidate) / PPL(reference)
  Figure difference;       // PPL(candidate) - PPL(reference)
  double correlation = 0;  // of the two NLLs over positions; NaN where one does not vary
  Figure kl;
  double max_kl = 0, min_kl = 0;
  std::vector<Percentile> kl_percentiles;  // 99.9, 99, 95, 90, 50, 10, 5 and 1 %
  Figure delta_p;                          // probabilities, not percent
  Figure rms_delta_p;
  double max_delta_p = 0, min_delta_p = 0;
  std::vector<Percentile> delta_p_percentiles;  // 99.9, 99, 95, 90, 75, 50, 25, 10, 5, 1 and 0.1 %
  Figure same_top;                              // fraction
  std::vector<PositionBucket> curve;
};

/// `buckets` of equal width over the scored positions of a window (fewer when there are fewer positions; 0: no curve).
/// `result` must hold at least one position. Error(invalid_argument) as bootstrap().
KlSummary summarize(const KlResult& result, const BootstrapOptions& bootstrap, int buckets = 16);

/// {"value", "standard_error", "interval"}; what is not known is null.
Json to_json(const Figure& figure);
/// Names as `bittern eval kl --json` prints them (docs/evaluation.md).
Json to_json(const KlSummary& summary);

/// "99.9", "50": a fraction as a percentage without needless digits.
std::string percent_name(double fraction);

}  // namespace bittern::quant
