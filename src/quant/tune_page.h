// The result of a tuning as an HTML page for people: what to run and what it costs first, then the table of all that
// was measured, the trade-off as a picture, and the path of the rule. A page stands by itself (html_page.h).
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "quant/decision.h"

namespace bittern::quant {

/// What the page says beside the decision. All unescaped.
struct TunePage {
  std::string model;
  std::string command = {};  // that runs the recommendation; empty: there is none
  /// What a figure was measured on: text, tasks, context, machine.
  std::vector<std::pair<std::string, std::string>> facts = {};
};

std::string tune_page(const TunePage& page, const Decision& decision);

/// The columns of the table of candidates and the cells of one, for pages and terminals. What was measured of none of
/// them has no column.
std::vector<std::string> tune_columns(const Decision& decision);
std::vector<std::string> tune_cells(const Decision& decision, const Measured& measured);
/// "passes", "fails the bar", "passes, too large": how a candidate stands.
std::string verdict(const Decision& decision, const Measured& measured);

}  // namespace bittern::quant
