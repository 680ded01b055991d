// Pages of tasks and recall: accuracies with intervals, side by side with the reference where there is one.
#include <algorithm>
#include <cmath>

#include "quant/eval_html.h"
#include "quant/eval_html_parts.h"

namespace bittern::quant {
namespace {

std::string percent(const Accuracy& accuracy) { return figure_text(accuracy.value(), accuracy.interval, "%.1f", 100); }

std::string counts(const Accuracy& accuracy) {
  return std::to_string(accuracy.right) + " of " + std::to_string(accuracy.total);
}

/// Accuracy in percent by group: candidate left, reference right of the middle.
Plot accuracy_plot(const std::string& label, const std::string& axis, const std::vector<GroupScore>& groups) {
  Plot plot{.label = label, .columns = static_cast<int>(groups.size()), .axis = axis};
  const auto add = [&](int column, double offset, int style, const std::string& name, const Accuracy& accuracy) {
    plot.marks.push_back({.column = column,
                          .offset = offset,
                          .value = 100 * accuracy.value(),
                          .low = 100 * accuracy.interval.low,
                          .high = 100 * accuracy.interval.high,
                          .style = style,
                          .title = name + ": " + counts(accuracy) + ", " + percent(accuracy) + " %"});
  };
  for (int i = 0; i < plot.columns; ++i) {
    const GroupScore& group = groups[static_cast<std::size_t>(i)];
    plot.ticks.push_back(group.group);
    add(i, group.change ? -0.12 : 0, 0, group.group, group.accuracy);
    if (group.change) add(i, 0.12, 1, group.group + ", reference", group.change->reference);
  }
  return plot;
}

std::vector<std::string> legend(const std::vector<GroupScore>& groups) {
  if (groups.empty() || !groups.front().change) return {};
  return {"candidate", "reference"};
}

std::string score_table(const std::string& what, const std::vector<GroupScore>& groups) {
  const bool pairs = !groups.empty() && groups.front().change;
  const bool nll = std::any_of(groups.begin(), groups.end(), [](const GroupScore& group) { return group.nll; });
  std::vector<std::string> titles = {what, "right", "accuracy, %"};
  if (pairs) titles.insert(titles.end(), {"reference, %", "difference, points", "gained, lost"});
  if (nll) titles.push_back("NLL of the answer");
  titles.push_back("");
  std::string html = "<div class=\"wide\"><table>\n" + table_head(titles) + "<tbody>\n";
  for (const GroupScore& group : groups) {
    html += "<tr>" + table_cell(group.group) + table_cell(counts(group.accuracy)) + table_cell(percent(group.accuracy));
    if (pairs) {
      const AccuracyChange& change = *group.change;
      html += table_cell(percent(change.reference)) +
              table_cell(figure_text(change.difference.value, change.difference.interval, "%+.1f", 100)) +
              table_cell(std::to_string(change.gained) + ", " + std::to_string(change.lost));
    }
    if (nll) html += table_cell(group.nll ? figure_text(group.nll->value, group.nll->interval) : "");
    html += table_cell("") + "</tr>\n";
  }
  return html + "</tbody>\n</table></div>\n";
}

std::string headline(const GroupScore& all) {
  std::string html =
      "<dl>\n" + page_fact("Right", counts(all.accuracy)) + page_fact("Accuracy, %", percent(all.accuracy));
  if (all.nll) html += page_fact("NLL of the answer, nats", figure_text(all.nll->value, all.nll->interval));
  if (all.change) {
    const AccuracyChange& change = *all.change;
    html += page_fact("Reference, %", percent(change.reference));
    html +=
        page_fact("Difference, points", figure_text(change.difference.value, change.difference.interval, "%+.1f", 100));
    html += page_fact("Gained and lost", std::to_string(change.gained) + " and " + std::to_string(change.lost));
    if (change.nll_difference) {
      html += page_fact("Difference of NLL",
                        figure_text(change.nll_difference->value, change.nll_difference->interval, "%+.4g"));
    }
  }
  return html + "</dl>\n";
}

std::string wrong_table(const std::vector<WrongReply>& wrong) {
  constexpr std::size_t kMost = 200;
  std::string html = section(
      "Wrong replies",
      wrong.size() > kMost ? "The first " + std::to_string(kMost) + " of " + std::to_string(wrong.size()) + "." : "");
  html += "<div class=\"wide\"><table class=\"text\">\n" + table_head({"task", "expected", "reply"}) + "<tbody>\n";
  for (std::size_t i = 0; i < std::min(wrong.size(), kMost); ++i) {
    html += "<tr>" + table_cell(wrong[i].id) + table_cell(wrong[i].expected) + table_cell(wrong[i].reply) + "</tr>\n";
  }
  return html + "</tbody>\n</table></div></section>\n";
}

std::string percent_depth(double depth) { return format_number(100 * depth, "%.3g %%"); }

/// Rows by depth, columns by length, of the candidate or the reference.
std::string recall_map(const RecallScores& scores, bool reference) {
  std::vector<std::string> columns;
  for (const std::int64_t length : scores.lengths) columns.push_back(std::to_string(length));
  std::vector<HeatRow> rows;
  for (std::size_t d = 0; d < scores.depths.size(); ++d) {
    HeatRow row{.name = percent_depth(scores.depths[d])};
    for (std::size_t l = 0; l < scores.lengths.size(); ++l) {
      const GroupScore& cell = scores.cells[l * scores.depths.size() + d];
      const Accuracy& accuracy = reference ? cell.change->reference : cell.accuracy;
      row.values.push_back(accuracy.total > 0 ? accuracy.value() : std::nan(""));
      row.titles.push_back(columns[l] + " tokens, depth " + row.name + ": " + counts(accuracy));
    }
    rows.push_back(std::move(row));
  }
  return "<div class=\"wide\">" +
         heat_map(std::string("Recall in percent by depth and length, ") + (reference ? "reference" : "candidate"),
                  "tokens of context", columns, rows) +
         "</div>\n";
}

}  // namespace

std::string tasks_page(const EvalPage& page, const TaskScores& scores) {
  std::vector<GroupScore> rows = scores.kinds;
  rows.push_back(scores.all);
  std::string html = page_top(page) + headline(scores.all);
  html += section("Accuracy by kind", "In percent; bars are intervals.");
  html += page_figure(accuracy_plot("Accuracy by kind of task", "kind", scores.kinds), legend(scores.kinds));
  html += score_table("kind", rows) + "</section>\n";
  if (!scores.normalized.empty()) {
    html += section("Choices by length-normalised log-likelihood",
                    "The likeliest continuation per byte of its text, in place of the likeliest as a whole.");
    html += score_table("kind", scores.normalized) + "</section>\n";
  }
  if (!scores.wrong.empty()) html += wrong_table(scores.wrong);
  return html + page_bottom(page);
}

std::string recall_page(const EvalPage& page, const RecallScores& scores) {
  std::string html = page_top(page) + headline(scores.all);
  html += section("Recalled by depth and length",
                  "In percent. Depth 0 % is the beginning of the text, farthest from the question.");
  if (scores.all.change) html += "<p class=\"soft\">candidate</p>\n";
  html += recall_map(scores, false);
  if (scores.all.change) html += "<p class=\"soft\">reference</p>\n" + recall_map(scores, true);
  html += "</section>\n" + section("By length", "Tokens of the whole prompt; bars are intervals.");
  html +=
      page_figure(accuracy_plot("Recall by length", "tokens of context", scores.by_length), legend(scores.by_length));
  html += score_table("length", scores.by_length) + "</section>\n";
  html += section("By depth") +
          page_figure(accuracy_plot("Recall by depth", "depth", scores.by_depth), legend(scores.by_depth));
  html += score_table("depth", scores.by_depth) + "</section>\n";
  return html + page_bottom(page);
}

}  // namespace bittern::quant
