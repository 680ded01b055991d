// The page is put together from strings, every name through escape_html(). Linears of a kind (q_proj, down_proj: the
// last component of their names) share a colour and a shape in both plots, whose marks name the linear when pointed at.
#include "quant/report_html.h"

#include <algorithm>
#include <cmath>

#include "base/strings.h"
#include "quant/html_page.h"
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

std::string facts(const QuantizeReport& report, std::uint64_t peak_resident_bytes) {
  const QuantizePlan& plan = report.plan;
  std::string html = "<dl>\n";
  html += page_fact("Scheme", plan.scheme + ", " + group(plan));
  html += page_fact("Algorithm", plan.algorithm);
  html += page_fact("Size", arrow(bytes(plan.source_bytes), bytes(plan.output_bytes)));
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
  return html + "</dl>\n";
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
  return "<section><h2>NMSE by layer</h2>\n<p class=\"soft\">Squared error of the weights over their squares; " +
         std::string(plot.log ? "logarithmic axis." : "lower is better.") + "</p>\n" + page_figure(plot, all) +
         "</section>\n";
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
  std::string html = "<section><h2>Loss before and after</h2>\n<p class=\"soft\">";
  if (plot.marks.empty()) return html + "Not measured: that takes an algorithm with calibration data.</p></section>\n";
  const auto lower = std::count_if(plot.marks.begin(), plot.marks.end(), [](auto& m) { return m.value < m.before; });
  html +=
      "Relative squared error of outputs on the search tokens: hollow as rounded to nearest, filled as written; "
      "logarithmic axis. Lower afterwards in " +
      std::to_string(lower) + " of " + std::to_string(plot.marks.size()) + " linears.</p>\n";
  return html + page_figure(plot, all) + "</section>\n";
}

std::string row(const LinearReport& linear, bool worst) {
  return std::string(worst ? "<tr class=\"worst\">" : "<tr>") + table_cell(linear.name) +
         table_cell(std::to_string(linear.out) + " \u00d7 " + std::to_string(linear.in)) +
         table_cell(arrow(bytes(linear.source_bytes), bytes(linear.output_bytes))) +
         table_cell(format_number(linear.nmse)) + table_cell(format_number(linear.cosine, "%.6f")) +
         table_cell(format_number(linear.max_abs)) + table_cell(loss(linear)) + table_cell(linear.notes) + "</tr>\n";
}

std::string table_section(const QuantizeReport& report) {
  std::string html = "<section><h2>Linears</h2>\n<p class=\"soft\">In the order of the model";
  if (!report.worst.empty()) html += "; " + escape_html(report.worst) + " has the largest NMSE";
  html += ".</p>\n<div class=\"wide\"><table>\n" +
          table_head({"linear", "shape", "size", "NMSE", "cosine", "max error", "loss", "notes"}) + "<tbody>\n";
  for (const LinearReport& linear : report.linears) html += row(linear, linear.name == report.worst);
  return html + "</tbody>\n</table></div></section>\n";
}

}  // namespace

std::string to_html(const QuantizeReport& report, std::uint64_t peak_resident_bytes) {
  const QuantizePlan& plan = report.plan;
  std::string html = page_head(plan.source + ", " + plan.scheme + " by " + plan.algorithm);
  html += "<body>\n<h1>" + escape_html(plan.source) + "</h1>\n<p>" + escape_html(plan.architecture) + ", " +
          std::to_string(plan.layers) + " layers, written to " + escape_html(plan.output.string()) + "</p>\n";
  html += facts(report, peak_resident_bytes);
  html += nmse_section(report) + loss_section(report) + table_section(report);
  return html + "</body>\n</html>\n";
}

}  // namespace bittern::quant
