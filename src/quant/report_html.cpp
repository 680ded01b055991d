// The page is put together from strings, every name through escape_html(), in the order of a reader's questions: what
// it cost, what to do, where it was lost, and what the words mean. Linears of a kind (q_proj, down_proj: the last
// component of their names) share a colour and a shape in both plots, whose marks name the linear when pointed at.
#include "quant/report_html.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "base/strings.h"
#include "quant/html_page.h"
#include "quant/report_advice.h"
#include "quant/svg_plot.h"

namespace bittern::quant {
namespace {

std::string bytes(std::int64_t count) {
  return human_bytes(static_cast<std::uint64_t>(std::max<std::int64_t>(count, 0)));
}
std::string count(std::int64_t n) { return human_count(static_cast<std::uint64_t>(std::max<std::int64_t>(n, 0))); }

std::string arrow(const std::string& from, const std::string& to) { return from + " \u2192 " + to; }

bool has_loss(const LinearReport& linear) { return linear.loss_before >= 0 && linear.loss_after >= 0; }

std::string loss(const LinearReport& linear) {
  const auto part = [](double value) { return value < 0 ? std::string("\u2013") : format_number(value); };
  if (linear.loss_before < 0 && linear.loss_after < 0) return part(-1);
  return arrow(part(linear.loss_before), part(linear.loss_after));
}

std::string kind(const LinearReport& linear) { return linear.name.substr(linear.name.rfind('.') + 1); }

// In the order in which the model has them: the index is the style of the kind.
std::vector<std::string> kinds(const QuantizeReport& report) {
  std::vector<std::string> list;
  for (const LinearReport& linear : report.linears) {
    if (std::find(list.begin(), list.end(), kind(linear)) == list.end()) list.push_back(kind(linear));
  }
  return list;
}

int style(const std::vector<std::string>& kinds, const LinearReport& linear) {
  return static_cast<int>(std::find(kinds.begin(), kinds.end(), kind(linear)) - kinds.begin());
}

int columns(const QuantizeReport& report) {
  int last = report.plan.layers - 1;
  for (const LinearReport& linear : report.linears) last = std::max(last, linear.layer);
  return last + 1;
}

std::string calibration(const QuantizePlan& plan) {
  if (plan.calibration_tokens <= 0) return "none: the algorithm looks at weights alone";
  return plan.calibration_name + ", " + count(plan.calibration_tokens) + " tokens, searches on " +
         count(std::min(plan.search_tokens, plan.calibration_tokens));
}

std::string group(const QuantizePlan& plan) {
  return plan.group_size < 0 ? std::string("a group for each output row")
                             : "groups of " + std::to_string(plan.group_size);
}

std::string time_taken(const QuantizeReport& report) {
  const std::string time = human_seconds(report.seconds);
  return report.resumed_layers == 0 ? time
                                    : time + ", after " + std::to_string(report.resumed_layers) +
                                          " layers taken over from a run that was stopped";
}

std::string with_error(double value, double error) {
  return format_number(value) + " \u00b1 " + format_number(error, "%.1g");
}

std::string percent(double value) { return format_number(100 * value, "%.2f") + " %"; }

std::string percentiles(const QualityReport& quality) {
  std::string text;
  for (const auto& [percent_of_tokens, kl] : quality.kl_percentiles) {
    text += format_number(percent_of_tokens) + " % under " + format_number(kl, "%.2g") + ", ";
  }
  return text + "largest " + format_number(quality.kl_max, "%.2g");
}

std::string quality_facts(const QualityReport& quality) {
  const double ratio = quality.perplexity / quality.reference_perplexity;
  std::string html = "<dl class=\"figures\">\n";
  html += page_fact("Perplexity, original \u2192 quantized",
                    arrow(format_number(quality.reference_perplexity), format_number(quality.perplexity)) + " (" +
                        format_number(100 * (ratio - 1), "%+.2f") + " %)");
  html += page_fact("KL divergence, mean per token", with_error(quality.kl, quality.kl_error));
  html += page_fact("Same most likely next token",
                    percent(quality.same_top) + " \u00b1 " + format_number(100 * quality.same_top_error, "%.2f"));
  html += "</dl>\n<dl>\n";
  html += page_fact("KL divergence of single tokens", percentiles(quality));
  html +=
      page_fact("Measured on", quality.name + ": " + std::to_string(quality.tokens) + " tokens scored, in " +
                                   std::to_string(quality.windows) + " windows of " + std::to_string(quality.context));
  html += page_fact("SHA-256 of the text", quality.sha256.substr(0, 16) + "\u2026");
  return html + "</dl>\n";
}

std::string cost_section(const QuantizeReport& report) {
  const QuantizePlan& plan = report.plan;
  std::string html = "<section><h2>What it cost</h2>\n<p>";
  html += escape_html(arrow(bytes(plan.source_bytes), bytes(plan.output_bytes)) + " on disk, " +
                      format_number(plan.bits_per_parameter(), "%.2f") + " bits per parameter. ");
  if (!report.quality) {
    const std::string reason = report.quality_absent.empty() ? "no text was given" : report.quality_absent;
    return html + "What that does to answers was not measured: " + escape_html(reason) + ".</p></section>\n";
  }
  html +=
      "Both models read the same text; 0 % more perplexity, a KL divergence of 0 and 100 % the same token would "
      "mean that nothing was lost.</p>\n";
  return html + quality_facts(*report.quality) + "</section>\n";
}

std::string advice_section(const QuantizeReport& report) {
  const std::vector<std::string> list = advice(report);
  if (list.empty()) return "";
  std::string html = "<section><h2>What to do with it</h2>\n<ul>\n";
  for (const std::string& text : list) html += "<li>" + escape_html(text) + "</li>\n";
  return html + "</ul></section>\n";
}

// A term and what it means, for a reader who has this page alone.
constexpr std::string_view kTerms[][2] = {
    {"Perplexity",
     "How many tokens the model hesitates between on average, when it predicts the next one of the text. "
     "Lower is better; it depends on the text, so compare it on the same text alone."},
    {"KL divergence",
     "How far the quantized model's probabilities of the next token are from the original's, in nats "
     "(natural logarithm). 0: the same. It also sees changes that cancel out in perplexity."},
    {"\u00b1", "Standard error: how much the figure would vary with other text of the same kind and length."},
    {"Linear",
     "One matrix of weights of a layer, such as q_proj. They hold nearly all parameters and are what was "
     "quantized."},
    {"NMSE",
     "Normalized squared error: the squared differences of the weights over the squared weights. One bit "
     "less makes it about 4 times as large."},
    {"Cosine", "Of the angle between the weights before and after; 1: the same direction."},
    {"Max error", "Largest difference of a single weight."},
    {"Loss",
     "Squared error of the linear's outputs over the squared outputs, on the search tokens of the calibration "
     "data: rounded to nearest \u2192 as written. It counts what the weights are multiplied with, NMSE does not."},
    {"Bits per weight", "Stored bits over weights, scales and zero points included."},
    {"Group", "Neighbouring weights of a row that share one scale."},
};

std::string terms_section() {
  std::string html = "<section><h2>Terms</h2>\n<dl class=\"terms\">\n";
  for (const auto& [term, meaning] : kTerms) html += page_fact(term, meaning);
  return html + "</dl></section>\n";
}

std::string facts(const QuantizeReport& report, std::uint64_t peak_resident_bytes) {
  const QuantizePlan& plan = report.plan;
  std::string html = "<section><h2>What was done</h2>\n<dl>\n";
  html += page_fact("Scheme", plan.scheme + ", " + group(plan));
  html += page_fact("Algorithm", plan.algorithm);
  html += page_fact("Tensors on disk", arrow(bytes(plan.source_bytes), bytes(plan.output_bytes)));
  html += page_fact("Bits per quantized weight", format_number(plan.bits_per_weight(), "%.2f"));
  html += page_fact("Bits per parameter, all tensors", format_number(plan.bits_per_parameter(), "%.2f"));
  html +=
      page_fact("Quantized", std::to_string(report.linears.size()) + " linears, " + count(plan.quantized_parameters) +
                                 " of " + count(plan.parameters) + " parameters");
  html += page_fact("Calibration data", calibration(plan));
  html += page_fact("NMSE of all weights together", format_number(report.nmse));
  html += page_fact("Time", time_taken(report));
  html += page_fact("Peak memory", human_bytes(peak_resident_bytes));
  if (!plan.kept.empty()) html += page_fact("Kept as they are", join(plan.kept, ", "));
  return html + "</dl></section>\n";
}

// Linear from 0 unless small values would then lie on the axis.
bool spreads_wide(const QuantizeReport& report) {
  double low = 0, high = 0;
  for (const LinearReport& linear : report.linears) {
    if (!(linear.nmse > 0) || !std::isfinite(linear.nmse)) continue;
    low = low == 0 ? linear.nmse : std::min(low, linear.nmse);
    high = std::max(high, linear.nmse);
  }
  return high > 20 * low;
}

std::string nmse_section(const QuantizeReport& report) {
  if (report.linears.empty()) return "";
  const std::vector<std::string> all = kinds(report);
  Plot plot{.label = "NMSE of every linear by layer", .columns = columns(report), .log = spreads_wide(report)};
  plot.joined = true;
  for (const LinearReport& linear : report.linears) {
    plot.marks.push_back({.column = linear.layer,
                          .value = linear.nmse,
                          .style = style(all, linear),
                          .title = linear.name + ": NMSE " + format_number(linear.nmse)});
  }
  return "<section><h2>Error of the weights, by layer</h2>\n<p class=\"soft\">NMSE (no unit, lower is better), " +
         std::string(plot.log ? "logarithmic" : "linear") +
         " axis; a kind of linear is a colour and a shape. Point at a mark for its name.</p>\n" +
         page_figure(plot, all) + "</section>\n";
}

Plot loss_plot(const QuantizeReport& report, const std::vector<std::string>& kinds) {
  Plot plot{.label = "Loss of every linear before and after, by layer", .columns = columns(report), .log = true};
  const auto places = static_cast<double>(kinds.size() + 1);
  for (const LinearReport& linear : report.linears) {
    if (!has_loss(linear)) continue;
    const int index = style(kinds, linear);
    plot.marks.push_back({.column = linear.layer,
                          .offset = (index + 1) / places - 0.5,
                          .value = linear.loss_after,
                          .before = linear.loss_before,
                          .style = index,
                          .title = linear.name + ": loss " + loss(linear)});
  }
  return plot;
}

std::string loss_section(const QuantizeReport& report) {
  const std::vector<std::string> all = kinds(report);
  const Plot plot = loss_plot(report, all);
  std::string html = "<section><h2>Error of the outputs, before and after</h2>\n<p class=\"soft\">";
  if (plot.marks.empty()) return html + "Not measured: that takes an algorithm with calibration data.</p></section>\n";
  const auto lower = std::count_if(plot.marks.begin(), plot.marks.end(), [](auto& m) { return m.value < m.before; });
  html +=
      "Loss (no unit, lower is better), logarithmic axis: hollow as rounded to nearest, filled as written. Lower "
      "afterwards in " +
      std::to_string(lower) + " of " + std::to_string(plot.marks.size()) + " linears.</p>\n";
  return html + page_figure(plot, all) + "</section>\n";
}

// What all linears have to say, when it is the same: then it is said once. Else nothing.
std::string common_note(const QuantizeReport& report) {
  const std::string& first = report.linears.front().notes;
  const bool same =
      std::ranges::all_of(report.linears, [&](const LinearReport& linear) { return linear.notes == first; });
  return same ? first : "";
}

bool notes_differ(const QuantizeReport& report) {
  return std::ranges::any_of(report.linears,
                             [&](const LinearReport& linear) { return linear.notes != report.linears.front().notes; });
}

std::string row(const LinearReport& linear, bool worst, bool with_notes) {
  return std::string(worst ? "<tr class=\"worst\">" : "<tr>") + table_cell(linear.name) +
         table_cell(format_number(linear.nmse)) + table_cell(loss(linear)) +
         table_cell(format_number(linear.cosine, "%.6f")) + table_cell(format_number(linear.max_abs)) +
         table_cell(arrow(bytes(linear.source_bytes), bytes(linear.output_bytes))) +
         table_cell(std::to_string(linear.out) + " \u00d7 " + std::to_string(linear.in)) +
         (with_notes ? table_cell(linear.notes) : "") + "</tr>\n";
}

std::vector<const LinearReport*> worst_first(const QuantizeReport& report) {
  std::vector<const LinearReport*> list;
  for (const LinearReport& linear : report.linears) list.push_back(&linear);
  // Infinite errors first, those that are no number last: an order that sorting can rely on.
  std::ranges::stable_sort(list, std::greater<>(),
                           [](const LinearReport* linear) { return std::isnan(linear->nmse) ? -1 : linear->nmse; });
  return list;
}

std::string table_section(const QuantizeReport& report) {
  if (report.linears.empty()) return "";
  const bool with_notes = notes_differ(report);
  std::vector<std::string> titles = {"linear", "NMSE", "loss", "cosine", "max error", "size", "outputs \u00d7 inputs"};
  if (with_notes) titles.push_back("notes");
  std::string html = "<section><h2>Linears, largest NMSE first</h2>\n";
  if (const std::string note = common_note(report); !note.empty())
    html += "<p class=\"soft\">All of them: " + escape_html(note) + ".</p>\n";
  html += "<div class=\"wide\"><table class=\"" + std::string(with_notes ? "noted" : "numbers") + "\">\n" +
          table_head(titles) + "<tbody>\n";
  for (const LinearReport* linear : worst_first(report)) html += row(*linear, linear->name == report.worst, with_notes);
  return html + "</tbody>\n</table></div></section>\n";
}

}  // namespace

std::string to_html(const QuantizeReport& report, std::uint64_t peak_resident_bytes) {
  const QuantizePlan& plan = report.plan;
  std::string html = page_head(plan.source + ", " + plan.scheme + " by " + plan.algorithm);
  html += "<body>\n<h1>" + escape_html(plan.source) + "</h1>\n<p>" + escape_html(plan.architecture) + ", " +
          std::to_string(plan.layers) + " layers \u2192 " + escape_html(plan.scheme) + " by " +
          escape_html(plan.algorithm) + ", written to " + escape_html(plan.output.string()) + "</p>\n";
  html += cost_section(report) + advice_section(report) + facts(report, peak_resident_bytes);
  html += nmse_section(report) + loss_section(report) + table_section(report) + terms_section();
  return html + "</body>\n</html>\n";
}

}  // namespace bittern::quant
