// Pages of perplexity and divergence, and what all pages share. Those of tasks and recall are in
// eval_html_accuracy.cpp.
#include "quant/eval_html.h"

#include <algorithm>
#include <cmath>

#include "quant/eval_html_parts.h"

namespace bittern::quant {
namespace {

constexpr int kMostColumns = 64;  // a plot of more windows shows neighbours together

/// Neighbouring windows gathered into at most kMostColumns blocks.
std::vector<std::vector<std::size_t>> columns_of(std::size_t windows) {
  const std::size_t columns = std::min<std::size_t>(windows, kMostColumns);
  std::vector<std::vector<std::size_t>> list(columns);
  for (std::size_t w = 0; w < windows; ++w) list[w * columns / windows].push_back(w);
  return list;
}

std::string range_name(std::size_t first, std::size_t last) {
  return first == last ? std::to_string(first) : std::to_string(first) + "-" + std::to_string(last);
}

Plot window_plot(const std::string& label, std::span<const BlockSum> windows, bool perplexity) {
  Plot plot{.label = label, .axis = "window", .joined = true};
  for (const auto& column : columns_of(windows.size())) {
    BlockSum sum;
    for (const std::size_t w : column) sum.sum += windows[w].sum, sum.weight += windows[w].weight;
    const double mean = sum.sum / sum.weight, value = perplexity ? std::exp(mean) : mean;
    const std::string name = range_name(column.front(), column.back());
    plot.marks.push_back(
        {.column = plot.columns++, .value = value, .title = "window " + name + ": " + format_number(value)});
    plot.ticks.push_back(std::to_string(column.front()));
  }
  return plot;
}

std::vector<BlockSum> kl_by_window(const KlResult& result) {
  std::vector<BlockSum> windows(static_cast<std::size_t>(result.reference.windows));
  for (const KlPosition& position : result.positions) {
    BlockSum& window = windows[static_cast<std::size_t>(position.window)];
    window.sum += position.kl, window.weight += 1;
  }
  return windows;
}

Plot curve_plot(const KlSummary& summary) {
  Plot plot{.label = "Mean KL divergence by position in the window", .axis = "tokens of context", .joined = true};
  for (const PositionBucket& bucket : summary.curve) {
    const std::string name =
        range_name(static_cast<std::size_t>(bucket.begin), static_cast<std::size_t>(bucket.end - 1));
    plot.ticks.push_back(std::to_string(bucket.begin));
    plot.marks.push_back({.column = plot.columns++,
                          .value = bucket.kl.value,
                          .low = bucket.kl.interval.low,
                          .high = bucket.kl.interval.high,
                          .title = "positions " + name + ": " + figure_text(bucket.kl.value, bucket.kl.interval)});
  }
  return plot;
}

Plot percentile_plot(const KlSummary& summary) {
  Plot plot{.label = "Percentiles of KL divergence", .axis = "percentile of positions", .log = true, .joined = true};
  const auto add = [&](const std::string& name, double value) {
    plot.ticks.push_back(name);
    plot.marks.push_back({.column = plot.columns++, .value = value, .title = name + ": " + format_number(value)});
  };
  for (auto p = summary.kl_percentiles.rbegin(); p != summary.kl_percentiles.rend(); ++p) {
    add(percent_name(p->fraction), p->value);
  }
  add("max", summary.max_kl);
  return plot;
}

/// Both distributions side by side; KL has fewer percentiles.
std::string percentile_table(const KlSummary& summary) {
  std::string html =
      "<div class=\"wide\"><table>\n" +
      table_head({"percentile", "KL divergence, nats", "change of the right token's probability, %", ""}) + "<tbody>\n";
  const auto row = [&](const std::string& name, const std::string& kl, double delta) {
    html += "<tr>" + table_cell(name) + table_cell(kl) + table_cell(format_number(100 * delta)) + table_cell("") +
            "</tr>\n";
  };
  row("maximum", format_number(summary.max_kl), summary.max_delta_p);
  for (const Percentile& p : summary.delta_p_percentiles) {
    const auto kl = std::find_if(summary.kl_percentiles.begin(), summary.kl_percentiles.end(),
                                 [&](const Percentile& k) { return k.fraction == p.fraction; });
    row(percent_name(p.fraction) + " %", kl == summary.kl_percentiles.end() ? "" : format_number(kl->value), p.value);
  }
  row("minimum", format_number(summary.min_kl), summary.min_delta_p);
  return html + "</tbody>\n</table></div>\n";
}

std::string curve_table(const KlSummary& summary) {
  std::string html = "<div class=\"wide\"><table>\n" +
                     table_head({"positions", "scored", "mean KL", "interval", "same top", ""}) + "<tbody>\n";
  for (const PositionBucket& bucket : summary.curve) {
    const Interval& interval = bucket.kl.interval;
    html += "<tr>" + table_cell(std::to_string(bucket.begin) + " to " + std::to_string(bucket.end - 1)) +
            table_cell(std::to_string(bucket.positions)) + table_cell(format_number(bucket.kl.value)) +
            table_cell(interval.known() ? format_number(interval.low) + " to " + format_number(interval.high) : "") +
            table_cell(format_number(100 * bucket.same_top.value, "%.2f %%")) + table_cell("") + "</tr>\n";
  }
  return html + "</tbody>\n</table></div>\n";
}

std::string kl_facts(const KlSummary& s) {
  const auto figure = [](const Figure& f, const char* format = "%.4g", double factor = 1) {
    return figure_text(f.value, f.interval, format, factor);
  };
  std::string html = "<dl>\n" + page_fact("Mean KL divergence, nats", figure(s.kl));
  html += page_fact("Largest KL divergence", format_number(s.max_kl));
  html += page_fact("Same most likely token, %", figure(s.same_top, "%.2f", 100));
  html += page_fact("RMS change of the right token's probability, %", figure(s.rms_delta_p, "%.3f", 100));
  html += page_fact("Perplexity, reference", figure(s.reference_perplexity));
  html += page_fact("Perplexity, candidate", figure(s.candidate_perplexity));
  html += page_fact("Perplexity ratio", figure(s.ratio, "%.5f"));
  return html + page_fact("Perplexity difference", figure(s.difference)) + "</dl>\n";
}

}  // namespace

std::string figure_text(double value, const Interval& interval, const char* format, double factor) {
  std::string text = format_number(factor * value, format);
  if (!interval.known()) return text;
  return text + " [" + format_number(factor * interval.low, format) + ", " +
         format_number(factor * interval.high, format) + "]";
}

std::string page_top(const EvalPage& page) {
  std::string html = page_head(page.title + ": " + page.model) + "<body>\n<h1>" + escape_html(page.title) +
                     "</h1>\n<p>" + escape_html(page.model) + "</p>\n";
  if (!page.reference.empty()) html += "<p>against " + escape_html(page.reference) + "</p>\n";
  if (page.stopped) html += "<p><b>Stopped before the end: the figures are of what was done until then.</b></p>\n";
  return html;
}

std::string page_bottom(const EvalPage& page) {
  std::string html = section("How it was measured") + "<dl>\n";
  for (const auto& [term, text] : page.facts) html += page_fact(term, text);
  return html + "</dl></section>\n</body>\n</html>\n";
}

std::string section(const std::string& title, const std::string& note) {
  return "<section><h2>" + escape_html(title) + "</h2>\n" +
         (note.empty() ? "" : "<p class=\"soft\">" + escape_html(note) + "</p>\n");
}

std::string ppl_page(const EvalPage& page, const PplResult& result, const BootstrapOptions& bootstrap) {
  const Figure figure = perplexity_figure(result, bootstrap);
  std::string html = page_top(page) + "<dl>\n" + page_fact("Perplexity", figure_text(figure.value, figure.interval));
  html += page_fact("Standard error, positions independent", format_number(figure.error));
  html += page_fact("NLL, nats per token", format_number(result.nll.mean, "%.6f")) + "</dl>\n";
  html +=
      section("Perplexity by window", "In the order of the text; neighbours are taken together where there are many.");
  html += page_figure(window_plot("Perplexity by window", result.window_nll, true), {}) + "</section>\n";
  return html + page_bottom(page);
}

std::string kl_page(const EvalPage& page, const KlResult& result, const KlSummary& summary) {
  std::string html = page_top(page) + kl_facts(summary);
  if (!summary.curve.empty()) {
    html += section("By position in the context",
                    "A loss that grows to the right builds up in the KV cache; bars are intervals over windows.");
    html += page_figure(curve_plot(summary), {}) + curve_table(summary) + "</section>\n";
  }
  html += section("Distribution", "Most positions lose less than the mean; the largest losses are what shows in text.");
  html += page_figure(percentile_plot(summary), {}) + percentile_table(summary);
  html += "</section>\n" + section("Mean KL by window", "In the order of the text.");
  html += page_figure(window_plot("Mean KL divergence by window", kl_by_window(result), false), {}) + "</section>\n";
  return html + page_bottom(page);
}

}  // namespace bittern::quant
