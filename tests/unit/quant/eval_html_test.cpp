// Pages of evaluations: complete, well formed in what they close, nothing from outside, hostile text is text.
#include "quant/eval_html.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <regex>

namespace bittern::quant {
namespace {

constexpr const char* kHostile = "<script src=\"http://evil/x.js\">&'";

EvalPage make_page(const std::string& text = "a model") {
  return {.title = "T", .model = text, .reference = text, .facts = {{"Data", text}}};
}

// Start tags less end tags, by name: all zero but for tags that have no end.
std::map<std::string, int> open_tags(const std::string& html) {
  static const std::regex tag("<(/?)([a-z][a-z0-9]*)[^<>]*>");
  std::map<std::string, int> count;
  for (std::sregex_iterator it(html.begin(), html.end(), tag), end; it != end; ++it) {
    count[(*it)[2]] += (*it)[1].length() == 0 ? 1 : -1;
  }
  count.erase("meta");
  std::erase_if(count, [](const auto& entry) { return entry.second == 0; });
  return count;
}

void expect_page(const std::string& html) {
  EXPECT_TRUE(html.starts_with("<!DOCTYPE html>"));
  EXPECT_TRUE(html.ends_with("</html>\n"));
  EXPECT_TRUE(open_tags(html).empty()) << open_tags(html).begin()->first;
  for (const char* reference : {" src=", " href=", "http://", "url(", "@import", "<script", "<link"}) {
    const auto at = html.find(reference);
    EXPECT_TRUE(at == std::string::npos || html.find("evil") < html.size()) << reference;
  }
  const std::regex coordinate(R"re( (?:d|x1|x2|y1|y2|x|y|width|points)="[^"]*(?:nan|inf)[^"]*")re");
  EXPECT_FALSE(std::regex_search(html, coordinate));
}

std::size_t occurrences(const std::string& text, const std::string& part) {
  std::size_t count = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

KlResult make_kl(int windows, int width) {
  KlResult result;
  for (int w = 0; w < windows; ++w) {
    result.reference.window_nll.push_back({1.0 * width, 1.0 * width});
    result.candidate.window_nll.push_back({1.1 * width, 1.0 * width});
    for (int i = 0; i < width; ++i) {
      result.positions.push_back({w, i, 0.01 * (i + 1), 0.001 * (i - 2), 1.0, 1.1, i % 3 != 0});
      result.position_kl.push_back(0.01 * (i + 1));
    }
  }
  result.reference.windows = result.candidate.windows = windows;
  result.reference.tokens = result.candidate.tokens = windows * width;
  result.reference.nll = {1.0, 0.1}, result.candidate.nll = {1.1, 0.1};
  result.max_kl = 0.01 * width;
  return result;
}

TEST(EvalHtml, KlPageHasFiguresCurveAndPercentiles) {
  const KlResult result = make_kl(3, 8);
  const std::string html = kl_page(make_page(), result, summarize(result, {.resamples = 50}, 4));
  expect_page(html);
  EXPECT_EQ(occurrences(html, "class=\"plot\""), 3u);
  EXPECT_EQ(occurrences(html, "<title>positions "), 4u);
  EXPECT_EQ(occurrences(html, "<title>window "), 3u);
  for (const char* text : {"99.9", "Same most likely token", "0.08", "against a model", "tokens of context"}) {
    EXPECT_NE(html.find(text), std::string::npos) << text;
  }
}

TEST(EvalHtml, OneWindowHasNoIntervalsAndNoCurveMayBeAsked) {
  const KlResult result = make_kl(1, 3);
  expect_page(kl_page(make_page(), result, summarize(result, {}, 3)));
  EXPECT_EQ(occurrences(kl_page(make_page(), result, summarize(result, {}, 0)), "By position"), 0u);
}

TEST(EvalHtml, PplPageGathersManyWindows) {
  const KlResult result = make_kl(1000, 4);
  const std::string html = ppl_page(make_page(), result.reference, {.resamples = 20});
  expect_page(html);
  EXPECT_EQ(occurrences(html, "<title>window "), 64u);
  EXPECT_NE(html.find("2.718"), std::string::npos);
}

TEST(EvalHtml, TasksPageShowsReferenceAndWrongReplies) {
  std::vector<Answer> candidate, reference;
  for (int i = 0; i < 12; ++i) {
    candidate.push_back({i < 6 ? "sums" : "facts", i % 3 != 0, std::nullopt});
    reference.push_back({i < 6 ? "sums" : "facts", i % 5 != 0, std::nullopt});
  }
  TaskScores scores;
  scores.kinds = score_groups(candidate, reference, {.resamples = 20});
  scores.all = score_all(candidate, reference, {.resamples = 20});
  scores.wrong = {{"id-1", "4", kHostile}};
  const std::string html = tasks_page(make_page(kHostile), scores);
  expect_page(html);
  EXPECT_EQ(html.find("<script"), std::string::npos);
  EXPECT_NE(html.find("&lt;script src=&quot;http://evil/x.js&quot;&gt;&amp;&#39;"), std::string::npos);
  EXPECT_NE(html.find("sums, reference: "), std::string::npos);
  EXPECT_NE(html.find("<td>id-1</td>"), std::string::npos);
}

TEST(EvalHtml, RecallPageIsAGridThatMayHaveHoles) {
  RecallScores scores;
  scores.lengths = {100, 200}, scores.depths = {0, 1};
  std::vector<Answer> answers;
  for (const char* cell : {"a", "b", "c"}) {
    answers.push_back({cell, true, 0.5});
    answers.push_back({cell, cell[0] == 'a', 2.0});
  }
  scores.cells = score_groups(answers, {}, {});
  scores.cells.emplace_back();  // a run that was stopped
  scores.by_length = scores.by_depth = score_groups(answers, {}, {});
  scores.all = score_all(answers, {}, {});
  const std::string html = recall_page(make_page(), scores);
  expect_page(html);
  EXPECT_EQ(occurrences(html, "class=\"heat\""), 3u);
  EXPECT_NE(html.find("100 tokens, depth 100 %: 1 of 2"), std::string::npos);
}

TEST(EvalHtml, AStoppedRunSaysSo) {
  EvalPage page = make_page();
  page.stopped = true;
  EXPECT_NE(ppl_page(page, make_kl(2, 2).reference, {}).find("Stopped before the end"), std::string::npos);
}

TEST(EvalHtml, FiguresWithAndWithoutInterval) {
  EXPECT_EQ(figure_text(0.123456, {0.1, 0.2}, "%.2f", 100), "12.35 [10.00, 20.00]");
  EXPECT_EQ(figure_text(1.5, {std::nan(""), std::nan("")}), "1.5");
}

}  // namespace
}  // namespace bittern::quant
