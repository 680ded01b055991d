// Shares of right answers by group (kind of task, cell of the recall grid) with their intervals, and what a second
// model changed on the very same questions. A question is a block: answers to different questions are independent,
// those of two models to one question are a pair.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "quant/quality_summary.h"

namespace bittern::quant {

/// One answered question.
struct Answer {
  std::string group;
  bool right = false;
  std::optional<double> nll;  // of the right answer in nats, where it was measured
};

struct Accuracy {
  std::int64_t right = 0, total = 0;
  /// Bootstrap over questions; Wilson's score interval (95 %) where all answers are right or all wrong, of which every
  /// resample is the same.
  Interval interval;
  double value() const { return total > 0 ? static_cast<double>(right) / static_cast<double>(total) : 0; }
};

/// What the candidate changed against the reference.
struct AccuracyChange {
  Accuracy reference;
  Figure difference;  // candidate's accuracy minus reference's
  std::int64_t gained = 0, lost = 0;
  std::optional<Figure> reference_nll, nll_difference;
};

struct GroupScore {
  std::string group;
  Accuracy accuracy;
  std::optional<Figure> nll;  // mean of the answers that have one
  std::optional<AccuracyChange> change;
};

/// Scores by group in the order of their first answers. `reference` is empty or answers the same questions in the same
/// order.
std::vector<GroupScore> score_groups(std::span<const Answer> answers, std::span<const Answer> reference,
                                     const BootstrapOptions& options);
/// Score of all answers together, as the group `name`.
GroupScore score_all(std::span<const Answer> answers, std::span<const Answer> reference,
                     const BootstrapOptions& options, const std::string& name = "all");

/// {"right", "total", "accuracy", "interval", "nll", "reference": {...}}
Json to_json(const GroupScore& score);

/// 95 % interval by Wilson's score; not known for a total of 0.
Interval wilson(double right, double total);

}  // namespace bittern::quant
