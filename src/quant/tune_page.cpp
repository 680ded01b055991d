// Sentences, a table, two pictures and a list.
#include "quant/tune_page.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/strings.h"
#include "quant/html_page.h"
#include "quant/svg_scatter.h"

namespace bittern::quant {
namespace {

std::string bytes(std::int64_t count) { return human_bytes(static_cast<std::uint64_t>(count)); }
std::string percent(double fraction) { return fmt::format("{:.1f} %", 100 * fraction); }

bool any(const Decision& decision, std::optional<double> Measured::*figure) {
  return std::ranges::any_of(decision.measured(), [&](const Measured& m) { return (m.*figure).has_value(); });
}

/// The figures that not every tuning measures.
struct OptionalColumn {
  const char* title;
  std::optional<double> Measured::*figure;
  std::string (*text)(double);
};
const OptionalColumn kOptional[] = {
    {"perplexity", &Measured::perplexity, [](double v) { return fmt::format("{:.3f}", v); }},
    {"tasks", &Measured::tasks, percent},
    {"recall", &Measured::recall, percent},
    {"repeats", &Measured::repeat, percent},
    {"agrees", &Measured::agreement, [](double v) { return fmt::format("{:.0f} tokens", v); }}};

std::string section(const std::string& title, const std::string& note) {
  return "<section><h2>" + escape_html(title) + "</h2>\n<p class=\"soft\">" + escape_html(note) + "</p>\n";
}

std::string change(double now, double before, const char* more, const char* less) {
  if (before <= 0 || now <= 0) return "";
  return now >= before ? fmt::format("{:.2f} times {}", now / before, more)
                       : fmt::format("{:.2f} times {}", before / now, less);
}

/// What the recommendation costs and gains against plain.
std::string summary(const Measured& best, const Measured& plain) {
  if (best.candidate.plain()) return "Nothing is lost: this is the model as it is.";
  std::string text = fmt::format(
      "Against the model as it is: memory {}, {}, prompt {}, one sequence {}, many {}.", bytes(best.peak_bytes),
      change(best.peak_bytes * 1.0, plain.peak_bytes * 1.0, "as much", "less"),
      change(best.prefill, plain.prefill, "as fast", "slower"), change(best.decode, plain.decode, "as fast", "slower"),
      change(best.batched, plain.batched, "as fast", "slower"));
  text += fmt::format(" Lost: KL divergence {:.5f} nats per token; {} of the most likely tokens change.", best.kl,
                      percent(1 - best.same_top));
  if (best.tasks && plain.tasks)
    text += fmt::format(" Tasks solved: {} of {} before.", percent(*best.tasks), percent(*plain.tasks));
  if (best.recall && plain.recall)
    text += fmt::format(" Needles recalled: {} of {} before.", percent(*best.recall), percent(*plain.recall));
  return text;
}

std::string recommendation(const TunePage& page, const Decision& decision) {
  const Measured* best = decision.recommended();
  std::string html = best ? "<h1>Run it as: " + escape_html(best->candidate.name()) + "</h1>\n"
                          : "<h1>Nothing measured meets what was asked</h1>\n";
  html += "<p>" + escape_html(page.model) + "</p>\n<p>" + escape_html("Why: " + decision.reason() + ".") + "</p>\n";
  if (!best) return html;
  html += "<p>" + escape_html(summary(*best, decision.measured().front())) + "</p>\n";
  if (!page.command.empty())
    html += "<div class=\"wide\"><pre><code>" + escape_html(page.command) + "</code></pre></div>\n";
  return html;
}

std::string table(const Decision& decision) {
  std::string html =
      section("What was measured",
              "KL: mean divergence from the model as it is, nats per token; same top: positions whose "
              "most likely token is the same; repeats: share of a long generation that it said before; "
              "agrees: tokens of it until the first that plain would not have said. Speeds are tokens per "
              "second: of a prompt, of one sequence, of many at once. The recommended row is marked.");
  html += "<div class=\"wide\"><table>\n" + table_head(tune_columns(decision)) + "<tbody>\n";
  for (const Measured& measured : decision.measured()) {
    html += &measured == decision.recommended() ? "<tr class=\"worst\">" : "<tr>";
    for (const std::string& cell : tune_cells(decision, measured)) html += table_cell(cell);
    html += "</tr>\n";
  }
  return html + "</tbody></table></div></section>\n";
}

/// Points of the measured candidates; joined are those that no other beats in both coordinates.
std::string scatter(const Decision& decision, Scatter plot, bool more_is_better, double (*x)(const Measured&)) {
  const auto beats = [&](const Measured& a, const Measured& b) {
    const double ax = more_is_better ? -x(a) : x(a), bx = more_is_better ? -x(b) : x(b);
    return ax <= bx && a.kl <= b.kl && (ax < bx || a.kl < b.kl);
  };
  int style = 0;
  for (const Measured& m : decision.measured()) {
    const bool beaten =
        std::ranges::any_of(decision.measured(), [&](const Measured& other) { return beats(other, m); });
    plot.points.push_back({x(m), m.kl, style++, !beaten, m.candidate.name()});
  }
  return "<div class=\"wide\">" + to_svg(plot) + "</div>\n";
}

std::string pictures(const Decision& decision) {
  std::string html =
      section("The trade-off",
              "Lower is closer to the model as it is, which lies on the lower edge. The line joins those "
              "that no other beats in both figures at once (the Pareto front).");
  html += scatter(decision,
                  {.label = "Loss over memory", .x_axis = "memory, MiB", .y_axis = "KL, nats per token", .log_y = true},
                  false, [](const Measured& m) { return static_cast<double>(m.peak_bytes) / (1 << 20); });
  const bool one = decision.options().objective == Objective::latency;
  html += scatter(
      decision,
      {.label = "Loss over speed",
       .x_axis = one ? "tokens per second of one sequence" : "tokens per second of many sequences",
       .y_axis = "KL, nats per token",
       .log_y = true},
      true, one ? [](const Measured& m) { return m.decode; } : [](const Measured& m) { return m.batched; });
  return html + "</section>\n";
}

std::string path(const Decision& decision) {
  std::string html = section("The path", "Quality bar: " + to_text(decision.options().bar) +
                                             ". What fails by itself is not tried in combination.");
  html += "<ol>\n";
  for (const DecisionStep& step : decision.path()) {
    html += "<li>" + escape_html(fmt::format("{}: {}; {}", step.candidate.name(), step.outcome_name(), step.reason)) +
            "</li>\n";
  }
  return html + "</ol></section>\n";
}

}  // namespace

std::string verdict(const Decision& decision, const Measured& measured) {
  const bool passes = decision.passes(measured), fits = decision.fits(measured);
  if (&measured == decision.recommended()) return "recommended";
  if (passes) return fits ? "passes" : "passes, too large";
  return fits ? "below the bar" : "below the bar, too large";
}

std::vector<std::string> tune_columns(const Decision& decision) {
  std::vector<std::string> titles = {"way to run", "verdict", "weights", "KV", "memory",
                                     "prompt",     "one",     "many",    "KL", "same top"};
  for (const OptionalColumn& column : kOptional) {
    if (any(decision, column.figure)) titles.emplace_back(column.title);
  }
  return titles;
}

std::vector<std::string> tune_cells(const Decision& decision, const Measured& m) {
  std::vector<std::string> cells = {m.candidate.name(),
                                    verdict(decision, m),
                                    bytes(m.weight_bytes),
                                    bytes(m.kv_bytes),
                                    bytes(m.peak_bytes),
                                    fmt::format("{:.1f}", m.prefill),
                                    fmt::format("{:.1f}", m.decode),
                                    fmt::format("{:.1f}", m.batched),
                                    fmt::format("{:.5f}", m.kl),
                                    percent(m.same_top)};
  for (const OptionalColumn& column : kOptional) {
    if (any(decision, column.figure)) cells.push_back(m.*column.figure ? column.text(*(m.*column.figure)) : "-");
  }
  return cells;
}

std::string tune_page(const TunePage& page, const Decision& decision) {
  std::string html = page_head("How to run " + page.model) + "<body>\n" + recommendation(page, decision);
  if (!decision.measured().empty()) html += table(decision) + pictures(decision);
  html += path(decision) + "<section><h2>How it was measured</h2>\n<dl>\n";
  for (const auto& [term, text] : page.facts) html += page_fact(term, text);
  return html + "</dl></section>\n</body>\n</html>\n";
}

}  // namespace bittern::quant
