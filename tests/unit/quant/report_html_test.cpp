// The page of a report: well formed, complete, without references to anything outside, whatever names it holds.
#include "quant/report_html.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <regex>
#include <set>

#include "quant/report_advice.h"
#include "quant/svg_plot.h"

namespace bittern::quant {
namespace {

constexpr const char* kHostile = "<script src=\"http://evil/x.js\">alert('1')</script>&amp;\"'\x01\xff";

QuantizeReport make_report(int layers, bool losses) {
  QuantizeReport report;
  report.plan.scheme = "w4a16";
  report.plan.algorithm = losses ? "awq" : "rtn";
  report.plan.source = "models/tiny";
  report.plan.architecture = "LlamaForCausalLM";
  report.plan.layers = layers;
  report.plan.source_bytes = 4'000'000, report.plan.output_bytes = 1'000'000;
  report.plan.quantized_parameters = 1000, report.plan.quantized_output_bytes = 531;
  if (losses) report.plan.calibration_name = "prose", report.plan.calibration_tokens = 4096;
  for (int layer = 0; layer < layers; ++layer) {
    for (const char* kind : {"self_attn.q_proj", "mlp.down_proj"}) {
      LinearReport linear;
      linear.name = "model.layers." + std::to_string(layer) + "." + kind;
      linear.layer = layer;
      linear.out = 64, linear.in = 32;
      linear.nmse = 0.001 * (layer + 1);
      if (losses) linear.loss_before = 0.02, linear.loss_after = 0.01;
      report.linears.push_back(linear);
    }
  }
  if (!report.linears.empty()) report.worst = report.linears.back().name;
  return report;
}

QualityReport make_quality() {
  QualityReport quality;
  quality.name = "held.txt", quality.sha256 = "0123456789abcdef0123";
  quality.context = 512, quality.windows = 4, quality.tokens = 1020;
  quality.reference_perplexity = 8, quality.perplexity = 8.4;
  quality.kl = 0.0125, quality.kl_error = 0.0021, quality.kl_max = 1.75;
  quality.kl_percentiles = {{50, 0.001}, {99.9, 0.75}};
  quality.same_top = 0.9625, quality.same_top_error = 0.006;
  return quality;
}

// Every start tag closed in order, attributes quoted, no bare '<' or '&'. Says what is wrong, or "".
std::string malformed(const std::string& html) {
  static const std::regex tag(R"re(<(/?)([a-z][a-z0-9]*)((?: [a-z][a-zA-Z0-9-]*="[^"<>]*")*)>)re");
  static const std::regex entity("&(?:amp|lt|gt|quot|#39);");
  static const std::set<std::string> no_end = {"meta"};
  static const std::string doctype = "<!DOCTYPE html>";
  if (html.rfind(doctype, 0) != 0) return "no doctype";
  std::vector<std::string> open;
  for (std::size_t i = doctype.size(); i < html.size(); ++i) {
    std::smatch match;
    const auto here = html.begin() + static_cast<std::ptrdiff_t>(i);
    constexpr auto anchored = std::regex_constants::match_continuous;
    if (html[i] == '&' && !std::regex_search(here, html.end(), match, entity, anchored)) return "a bare &";
    if (html[i] == '>') return "a bare > after " + html.substr(i < 60 ? 0 : i - 60, 60);
    if (html[i] != '<') continue;
    if (!std::regex_search(here, html.end(), match, tag, anchored)) return "not a tag: " + html.substr(i, 60);
    i += static_cast<std::size_t>(match.length()) - 1;
    if (no_end.count(match[2])) continue;
    if (match[1].length() == 0) {
      open.push_back(match[2]);
    } else {
      if (open.empty() || open.back() != match[2]) return "</" + match[2].str() + "> closes nothing";
      open.pop_back();
    }
  }
  return open.empty() ? "" : "<" + open.back() + "> is not closed";
}

std::size_t occurrences(const std::string& text, const std::string& part) {
  std::size_t count = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

TEST(ReportHtml, TheCheckOfTagsFindsWhatIsWrong) {
  EXPECT_EQ(malformed("<!DOCTYPE html><p>a &lt; b</p>"), "");
  for (const char* bad : {"<p>a</p>", "<!DOCTYPE html><p>a", "<!DOCTYPE html><p><b>a</p></b>", "<!DOCTYPE html>a & b",
                          "<!DOCTYPE html>a < b", "<!DOCTYPE html><p class=\"a\"b\">a</p>", "<!DOCTYPE html></p>"}) {
    EXPECT_NE(malformed(bad), "") << bad;
  }
}

TEST(ReportHtml, HoldsTheFactsAndEveryLinear) {
  const QuantizeReport report = make_report(30, true);
  const std::string html = to_html(report, 3ULL << 30);
  EXPECT_EQ(malformed(html), "");
  for (const LinearReport& linear : report.linears) EXPECT_EQ(occurrences(html, "<td>" + linear.name + "</td>"), 1u);
  // q_proj and down_proj: one mark each in the plot of NMSE, two (before and after) in that of losses.
  EXPECT_EQ(occurrences(html, ": NMSE 0.0"), report.linears.size());
  EXPECT_EQ(occurrences(html, ": loss 0.02 \u2192 0.01</title>"), 2 * report.linears.size());
  EXPECT_EQ(occurrences(html, "<polyline"), 2u);
  EXPECT_EQ(occurrences(html, "<tr class=\"worst\">"), 1u);
  for (const char* text : {"models/tiny", "w4a16", "awq", "4.25", "3.00 GiB", "prose", "60 of 60 linears"}) {
    EXPECT_NE(html.find(text), std::string::npos) << text;
  }
}

TEST(ReportHtml, TellsWhatWasLostOnWhichTextAndWhatTheWordsMean) {
  QuantizeReport report = make_report(3, true);
  report.quality = make_quality();
  const std::string html = to_html(report, 1);
  EXPECT_EQ(malformed(html), "");
  for (const char* text : {"8 \u2192 8.4 (+5.00 %)", "0.0125 \u00b1 0.002", "96.25 % \u00b1 0.60",
                           "50 % under 0.001, 99.9 % under 0.75, largest 1.8",
                           "held.txt: 1020 tokens scored, in 4 windows of 512", "0123456789abcdef\u2026"}) {
    EXPECT_NE(html.find(text), std::string::npos) << text;
  }
  for (const char* term : {"Perplexity", "KL divergence", "NMSE", "Cosine", "Loss"}) {
    EXPECT_NE(html.find("<dt>" + std::string(term) + "</dt>"), std::string::npos) << term;
  }
}

TEST(ReportHtml, SaysWhyQualityWasNotMeasuredAndHowToMeasureIt) {
  QuantizeReport report = make_report(3, false);
  report.plan.output = "out/tiny-w4";
  report.quality_absent = "the model has no tokenizer";
  const std::string html = to_html(report, 1);
  EXPECT_NE(html.find("was not measured: the model has no tokenizer."), std::string::npos);
  EXPECT_NE(html.find("bittern eval kl out/tiny-w4 --reference models/tiny --data FILE"), std::string::npos);
}

TEST(ReportHtml, ListsTheWorstLinearFirst) {
  QuantizeReport report = make_report(4, false);
  report.linears[5].nmse = std::numeric_limits<double>::infinity();
  report.linears[0].nmse = std::nan("");
  const std::string html = to_html(report, 1);
  const auto place = [&](std::size_t i) { return html.find("<td>" + report.linears[i].name + "</td>"); };
  EXPECT_LT(place(5), place(7));
  EXPECT_LT(place(7), place(2));
  EXPECT_LT(place(2), place(0));
}

TEST(ReportHtml, SaysOnceWhatAllLinearsHaveToSay) {
  QuantizeReport report = make_report(2, true);
  EXPECT_EQ(to_html(report, 1).find("notes</th>"), std::string::npos);
  for (LinearReport& linear : report.linears) linear.notes = "damping 0.01";
  EXPECT_EQ(occurrences(to_html(report, 1), "damping 0.01"), 1u);
  EXPECT_EQ(to_html(report, 1).find("notes</th>"), std::string::npos);
  report.linears[1].notes = "damping 0.1";
  EXPECT_EQ(occurrences(to_html(report, 1), "<td>damping 0.01</td>"), 3u);
  EXPECT_NE(to_html(report, 1).find("notes</th>"), std::string::npos);
}

TEST(ReportAdvice, NamesLinearsThatStandOutAndWhatKeepingThemTakes) {
  QuantizeReport report = make_report(2, true);
  report.nmse = 0.001;
  report.plan.group_size = 128;
  report.linears[3].nmse = 0.01;
  report.linears[3].source_bytes = 3 << 20, report.linears[3].output_bytes = 1 << 20;
  const std::vector<std::string> list = advice(report);
  ASSERT_EQ(list.size(), 3u);
  EXPECT_EQ(list[0].rfind("1 linear loses more than 3 times", 0), 0u) << list[0];
  EXPECT_NE(list[0].find("--skip model.layers.1.mlp.down_proj"), std::string::npos) << list[0];
  EXPECT_NE(list[0].find("2.00 MiB more"), std::string::npos) << list[0];
  EXPECT_NE(list[1].find("--group-size"), std::string::npos);
}

TEST(ReportAdvice, IsNotGivenWhereItDoesNotApply) {
  QuantizeReport report = make_report(2, true);
  report.nmse = 1;
  report.plan.group_size = 32;
  ASSERT_EQ(advice(report).size(), 1u);  // to measure it
  report.plan.algorithm = "rtn";
  ASSERT_EQ(advice(report).size(), 2u);
  EXPECT_NE(advice(report)[0].find("--algorithm gptq"), std::string::npos);
  report.linears[0].loss_after = 0.03;
  EXPECT_NE(advice(report)[1].find("1 of 4 linears"), std::string::npos);
  EXPECT_TRUE(advice(QuantizeReport{}).empty());
}

TEST(ReportHtml, LossesThatWereNotMeasuredAreSaidToBeMissing) {
  const std::string html = to_html(make_report(3, false), 1);
  EXPECT_EQ(malformed(html), "");
  EXPECT_NE(html.find("Not measured"), std::string::npos);
  EXPECT_EQ(occurrences(html, "class=\"plot\""), 1u);
  EXPECT_EQ(html.find(": loss"), std::string::npos);
}

TEST(ReportHtml, AReportWithoutLinearsIsAPage) { EXPECT_EQ(malformed(to_html(QuantizeReport{}, 0)), ""); }

TEST(ReportHtml, HostileNamesAreText) {
  QuantizeReport report = make_report(1, true);
  QuantizePlan& plan = report.plan;
  plan.source = plan.scheme = plan.algorithm = plan.architecture = plan.calibration_name = kHostile;
  plan.output = kHostile;
  plan.kept = {kHostile};
  for (LinearReport& linear : report.linears) linear.name = linear.notes = kHostile;
  report.worst = kHostile;
  report.quality = make_quality();
  report.quality->name = report.quality->sha256 = kHostile;
  const std::string html = to_html(report, 1);
  EXPECT_EQ(malformed(html), "");
  EXPECT_EQ(html.find("<script"), std::string::npos);
  EXPECT_EQ(html.find('\x01'), std::string::npos);
  EXPECT_EQ(html.find('\xff'), std::string::npos);
  EXPECT_NE(html.find("&lt;script src=&quot;http://evil/x.js&quot;&gt;alert(&#39;1&#39;)"), std::string::npos);
  report.quality.reset();
  report.quality_absent = kHostile;
  EXPECT_EQ(malformed(to_html(report, 1)), "");
  EXPECT_EQ(to_html(report, 1).find("<script"), std::string::npos);
}

TEST(ReportHtml, ReferencesNothingOutside) {
  const std::string html = to_html(make_report(4, true), 1);
  for (const char* reference : {" src=", " href=", "http://", "https://", "url(", "@import", "<script", "<link"}) {
    EXPECT_EQ(html.find(reference), std::string::npos) << reference;
  }
}

TEST(ReportHtml, ValuesNoAxisHolds) {
  QuantizeReport report = make_report(8, true);
  const double values[] = {0, 1e-300, 1e300, std::numeric_limits<double>::infinity(), std::nan(""), 5e-324, 1, 0};
  for (std::size_t i = 0; i < 16; ++i) {
    report.linears[i].nmse = report.linears[i].loss_after = values[i / 2];
    report.linears[i].loss_before = values[7 - i / 2];
  }
  const std::string html = to_html(report, 1);
  EXPECT_EQ(malformed(html), "");
  const std::regex coordinate(R"re( (?:d|x1|x2|y1|y2|x|y|points)="[^"]*(?:nan|inf)[^"]*")re");
  EXPECT_FALSE(std::regex_search(html, coordinate));
}

// Coordinates of the marks, read back from the drawing: y grows downwards.
std::vector<double> heights(const std::string& svg) {
  static const std::regex mark(R"re(<path class="[^"]*" d="M[0-9.]+ ([0-9.]+)m)re");
  std::vector<double> list;
  for (std::sregex_iterator it(svg.begin(), svg.end(), mark), end; it != end; ++it) list.push_back(std::stod((*it)[1]));
  return list;
}

TEST(SvgPlot, ADecadeIsADistanceOnALogarithmicAxis) {
  Plot plot{.label = "x", .columns = 3, .log = true};
  for (int i = 0; i < 3; ++i) plot.marks.push_back({.column = i, .value = std::pow(10.0, -i)});
  const std::vector<double> y = heights(to_svg(plot));
  ASSERT_EQ(y.size(), 3u);
  EXPECT_LT(y[0], y[1]);
  EXPECT_NEAR(y[1] - y[0], y[2] - y[1], 0.11);  // coordinates have one decimal
}

TEST(SvgPlot, ALinearAxisStartsAtZero) {
  Plot plot{.label = "x", .columns = 3};
  for (const double value : {0.0, 1.0, 2.0}) {
    plot.marks.push_back({.column = static_cast<int>(value), .value = value});
  }
  const std::vector<double> y = heights(to_svg(plot));
  ASSERT_EQ(y.size(), 3u);
  EXPECT_NEAR(y[0], 260, 0.1);
  EXPECT_NEAR(y[0] - y[1], y[1] - y[2], 0.11);
}

}  // namespace
}  // namespace bittern::quant
