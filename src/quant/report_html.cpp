// The page is put together from strings, every name through escape_html(). Linears of a kind (q_proj, down_proj: the
// last component of their names) share a colour and a shape in both plots, whose marks name the linear when pointed at.
#include "quant/report_html.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "base/strings.h"
#include "quant/svg_plot.h"

namespace bittern::quant {
namespace {

// The colours of the styles are those of Okabe and Ito (2008), told apart by most eyes, lighter where the page is dark.
constexpr const char* kStyle = R"css(
:root{color-scheme:light dark;--paper:#fff;--ink:#1c1e21;--soft:#5c636b;--rule:#d9dde1;--mark:#fff3cf;
--c0:#0072b2;--c1:#d55e00;--c2:#009e73;--c3:#b0568c;--c4:#a87b00;--c5:#3a9bd5;--c6:#555}
@media (prefers-color-scheme:dark){:root{--paper:#15181b;--ink:#e6e8ea;--soft:#9aa3ab;--rule:#343a40;--mark:#3a3214;
--c0:#4aa8e0;--c1:#ff8a3c;--c2:#2fcf9f;--c3:#e48cc0;--c4:#f0c03c;--c5:#8fd0ff;--c6:#bbb}}
body{margin:0 auto;padding:1rem;max-width:64rem;background:var(--paper);color:var(--ink);
font:16px/1.45 system-ui,sans-serif}
h1{font-size:1.4rem;margin:.2rem 0;overflow-wrap:anywhere}h2{font-size:1.1rem;margin:2rem 0 .4rem}
p{margin:.3rem 0;overflow-wrap:anywhere}.soft{color:var(--soft);font-size:.9rem}
dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(13rem,1fr));gap:.8rem 1.2rem;margin:1rem 0}
dt{color:var(--soft);font-size:.85rem}dd{margin:0;overflow-wrap:anywhere}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.85rem;font-variant-numeric:tabular-nums;width:100%}
th,td{padding:.25rem .6rem;text-align:right;white-space:nowrap;border-bottom:1px solid var(--rule)}
th{color:var(--soft);font-weight:600}
th:first-child,td:first-child,th:last-child,td:last-child{text-align:left}td:last-child{white-space:normal}
tr.worst{background:var(--mark)}
.plot{display:block;width:100%;min-width:34rem;height:auto}.plot text{fill:var(--soft);font-size:11px}
.key{width:.8rem;height:.8rem;vertical-align:-.05rem;margin-right:.3rem}
ul.legend{display:flex;flex-wrap:wrap;gap:.2rem 1rem;list-style:none;padding:0;margin:.3rem 0;font-size:.9rem}
.grid{stroke:var(--rule)}.axis{stroke:var(--soft)}
.s0{--c:var(--c0)}.s1{--c:var(--c1)}.s2{--c:var(--c2)}.s3{--c:var(--c3)}.s4{--c:var(--c4)}.s5{--c:var(--c5)}
.s6{--c:var(--c6)}path{fill:var(--c);stroke:var(--c)}path.before{fill:var(--paper)}
polyline{fill:none;stroke:var(--c);stroke-opacity:.6}line[class^=s]{stroke:var(--c);stroke-opacity:.6}
)css";
static_assert(kPlotColors == 7, "the style sheet has as many colours as plots use");

std::string number(double value, const char* format = "%.4g") {
  char text[48];
  std::snprintf(text, sizeof(text), format, value);
  return text;
}

std::string bytes(std::int64_t count) {
  return human_bytes(static_cast<std::uint64_t>(std::max<std::int64_t>(count, 0)));
}
std::string count(std::int64_t n) { return human_count(static_cast<std::uint64_t>(std::max<std::int64_t>(n, 0))); }

std::string arrow(const std::string& from, const std::string& to) { return from + " \u2192 " + to; }

bool has_loss(const LinearReport& linear) { return linear.loss_before >= 0 && linear.loss_after >= 0; }

std::string loss(const LinearReport& linear) {
  const auto part = [](double value) { return value < 0 ? std::string("\u2013") : number(value); };
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

std::string fact(std::string_view term, const std::string& text) {
  return "<div><dt>" + std::string(term) + "</dt><dd>" + escape_html(text) + "</dd></div>\n";
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
  html += fact("Scheme", plan.scheme + ", " + group(plan));
  html += fact("Algorithm", plan.algorithm);
  html += fact("Size", arrow(bytes(plan.source_bytes), bytes(plan.output_bytes)));
  html += fact("Bits per quantized weight", number(plan.bits_per_weight(), "%.2f"));
  html += fact("Bits per parameter, all tensors", number(plan.bits_per_parameter(), "%.2f"));
  html += fact("Quantized", std::to_string(report.linears.size()) + " linears, " + count(plan.quantized_parameters) +
                                " of " + count(plan.parameters) + " parameters");
  html += fact("Calibration data", calibration(plan));
  html += fact("NMSE of all weights together", number(report.nmse));
  html += fact("Time", time_taken(report));
  html += fact("Peak memory", human_bytes(peak_resident_bytes));
  if (!plan.kept.empty()) html += fact("Kept as they are", join(plan.kept, ", "));
  return html + "</dl>\n";
}

std::string legend(const std::vector<std::string>& kinds) {
  std::string html = "<ul class=\"legend\">";
  for (std::size_t i = 0; i < kinds.size(); ++i) {
    html += "<li>" + plot_key(static_cast<int>(i)) + escape_html(kinds[i]) + "</li>";
  }
  return html + "</ul>\n";
}

std::string figure(const Plot& plot, const std::vector<std::string>& kinds) {
  return legend(kinds) + "<div class=\"wide\">" + to_svg(plot) + "</div>\n";
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
                          .title = linear.name + ": NMSE " + number(linear.nmse)});
  }
  return "<section><h2>NMSE by layer</h2>\n<p class=\"soft\">Squared error of the weights over their squares; " +
         std::string(plot.log ? "logarithmic axis." : "lower is better.") + "</p>\n" + figure(plot, all) +
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
  return html + figure(plot, all) + "</section>\n";
}

std::string cell(const std::string& text) { return "<td>" + escape_html(text) + "</td>"; }

std::string row(const LinearReport& linear, bool worst) {
  return std::string(worst ? "<tr class=\"worst\">" : "<tr>") + cell(linear.name) +
         cell(std::to_string(linear.out) + " \u00d7 " + std::to_string(linear.in)) +
         cell(arrow(bytes(linear.source_bytes), bytes(linear.output_bytes))) + cell(number(linear.nmse)) +
         cell(number(linear.cosine, "%.6f")) + cell(number(linear.max_abs)) + cell(loss(linear)) + cell(linear.notes) +
         "</tr>\n";
}

std::string table_section(const QuantizeReport& report) {
  std::string html = "<section><h2>Linears</h2>\n<p class=\"soft\">In the order of the model";
  if (!report.worst.empty()) html += "; " + escape_html(report.worst) + " has the largest NMSE";
  html += ".</p>\n<div class=\"wide\"><table>\n<thead><tr>";
  for (const char* title : {"linear", "shape", "size", "NMSE", "cosine", "max error", "loss", "notes"}) {
    html += "<th>" + std::string(title) + "</th>";
  }
  html += "</tr></thead>\n<tbody>\n";
  for (const LinearReport& linear : report.linears) html += row(linear, linear.name == report.worst);
  return html + "</tbody>\n</table></div></section>\n";
}

std::string head(const std::string& title) {
  return "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
         "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
         "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
         "<title>" +
         escape_html(title) + "</title>\n<style>" + kStyle + "</style>\n</head>\n";
}

}  // namespace

std::string to_html(const QuantizeReport& report, std::uint64_t peak_resident_bytes) {
  const QuantizePlan& plan = report.plan;
  std::string html = head(plan.source + ", " + plan.scheme + " by " + plan.algorithm);
  html += "<body>\n<h1>" + escape_html(plan.source) + "</h1>\n<p>" + escape_html(plan.architecture) + ", " +
          std::to_string(plan.layers) + " layers, written to " + escape_html(plan.output.string()) + "</p>\n";
  html += facts(report, peak_resident_bytes);
  html += nmse_section(report) + loss_section(report) + table_section(report);
  return html + "</body>\n</html>\n";
}

}  // namespace bittern::quant
