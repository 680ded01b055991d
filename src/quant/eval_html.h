// Results of an evaluation as HTML pages for people: figures with their intervals first, then plots, then tables. A
// page stands by itself (html_page.h). It measures nothing and decides nothing.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "quant/accuracy.h"
#include "quant/quality_summary.h"
#include "quant/recall.h"

namespace bittern::quant {

/// What stands above the figures. All unescaped.
struct EvalPage {
  std::string title = {};                                       // "KL divergence"
  std::string model = {};                                       // what was measured
  std::string reference = {};                                   // against what; empty: nothing
  std::vector<std::pair<std::string, std::string>> facts = {};  // protocol, data, ...
  bool stopped = false;                                         // by the user, before the end
};

/// Perplexity, and its course over the windows.
std::string ppl_page(const EvalPage& page, const PplResult& result, const BootstrapOptions& bootstrap);
std::string kl_page(const EvalPage& page, const KlResult& result, const KlSummary& summary);

/// A reply that was wrong, for the page of tasks.
struct WrongReply {
  std::string id, expected, reply;
};

struct TaskScores {
  std::vector<GroupScore> kinds;
  GroupScore all;
  /// Choices by length-normalised log-likelihood; empty where there are none.
  std::vector<GroupScore> normalized;
  std::vector<WrongReply> wrong;
};
std::string tasks_page(const EvalPage& page, const TaskScores& scores);

struct RecallScores {
  std::vector<std::int64_t> lengths;
  std::vector<double> depths;
  std::vector<GroupScore> cells;  // by length, then depth
  std::vector<GroupScore> by_length, by_depth;
  GroupScore all;
};
std::string recall_page(const EvalPage& page, const RecallScores& scores);

/// "1.234 [1.200, 1.270]": a figure with its interval, where there is one.
std::string figure_text(double value, const Interval& interval, const char* format = "%.4g", double factor = 1);

}  // namespace bittern::quant
