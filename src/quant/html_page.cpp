// One style sheet for light and dark, screen and paper. Pages are put together from strings; names pass escape_html().
#include "quant/html_page.h"

#include <cstdio>

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
.figures dd{font-size:1.25rem;font-variant-numeric:tabular-nums}ul{margin:.3rem 0;padding-left:1.2rem}
li{margin:.2rem 0;overflow-wrap:anywhere}.terms{grid-template-columns:repeat(auto-fit,minmax(18rem,1fr))}
.terms dt{color:var(--ink);font-weight:600}.terms dd{color:var(--soft);font-size:.9rem}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.85rem;font-variant-numeric:tabular-nums;width:100%}
th,td{padding:.25rem .6rem;text-align:right;white-space:nowrap;border-bottom:1px solid var(--rule)}
th{color:var(--soft);font-weight:600}
th:first-child,td:first-child,th:last-child,td:last-child{text-align:left}td:last-child{white-space:normal}
.noted td:last-child{min-width:14rem}.numbers th:last-child,.numbers td:last-child{text-align:right}
tr.worst{background:var(--mark)}
.plot{display:block;width:100%;min-width:34rem;height:auto}.plot text{fill:var(--soft);font-size:11px}
.key{width:.8rem;height:.8rem;vertical-align:-.05rem;margin-right:.3rem}
ul.legend{display:flex;flex-wrap:wrap;gap:.2rem 1rem;list-style:none;padding:0;margin:.3rem 0;font-size:.9rem}
.grid{stroke:var(--rule)}.axis{stroke:var(--soft)}
.s0{--c:var(--c0)}.s1{--c:var(--c1)}.s2{--c:var(--c2)}.s3{--c:var(--c3)}.s4{--c:var(--c4)}.s5{--c:var(--c5)}
.s6{--c:var(--c6)}path{fill:var(--c);stroke:var(--c)}path.before{fill:var(--paper)}
polyline{fill:none;stroke:var(--c);stroke-opacity:.6}line[class^=s]{stroke:var(--c);stroke-opacity:.6}
.text th,.text td{text-align:left;white-space:normal;vertical-align:top;overflow-wrap:anywhere}
.heat{fill:var(--c0);stroke:var(--rule)}.plot text.over{fill:var(--paper)}.plot text.cell{fill:var(--ink)}
)css";
static_assert(kPlotColors == 7, "the style sheet has as many colours as plots use");

}  // namespace

std::string page_head(std::string_view title) {
  return "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
         "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
         "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
         "<title>" +
         escape_html(title) + "</title>\n<style>" + kStyle + "</style>\n</head>\n";
}

std::string page_fact(std::string_view term, std::string_view text) {
  return "<div><dt>" + escape_html(term) + "</dt><dd>" + escape_html(text) + "</dd></div>\n";
}

std::string table_cell(std::string_view text) { return "<td>" + escape_html(text) + "</td>"; }

std::string table_head(const std::vector<std::string>& titles) {
  std::string html = "<thead><tr>";
  for (const std::string& title : titles) html += "<th>" + escape_html(title) + "</th>";
  return html + "</tr></thead>\n";
}

std::string plot_legend(const std::vector<std::string>& names) {
  std::string html = "<ul class=\"legend\">";
  for (std::size_t i = 0; i < names.size(); ++i) {
    html += "<li>" + plot_key(static_cast<int>(i)) + escape_html(names[i]) + "</li>";
  }
  return html + "</ul>\n";
}

std::string page_figure(const Plot& plot, const std::vector<std::string>& names) {
  return (names.empty() ? std::string() : plot_legend(names)) + "<div class=\"wide\">" + to_svg(plot) + "</div>\n";
}

std::string format_number(double value, const char* format) {
  char text[64];
  std::snprintf(text, sizeof(text), format, value);
  return text;
}

}  // namespace bittern::quant
