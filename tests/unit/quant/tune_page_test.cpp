// The page of a tuning and its scatter plots: what is said, what is escaped, and where points lie.
#include "quant/tune_page.h"

#include <gtest/gtest.h>

#include <regex>

#include "quant/svg_scatter.h"

namespace bittern::quant {
namespace {

Decision decided(double kl_of_weights = 0.001) {
  Decision decision({.objective = Objective::latency, .kv = {}, .weights = {"w4<&>"}});
  decision.add({.candidate = *decision.next(), .peak_bytes = 8 << 20, .prefill = 100, .decode = 10, .batched = 20});
  decision.add({.candidate = *decision.next(),
                .kl = kl_of_weights,
                .same_top = 0.98,
                .tasks = 0.5,
                .peak_bytes = 4 << 20,
                .prefill = 90,
                .decode = 30,
                .batched = 60});
  return decision;
}

int count(const std::string& text, const std::string& part) {
  int found = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

TEST(TunePage, SaysWhatToRunWhyAndWhatItCosts) {
  const Decision decision = decided();
  const std::string page = tune_page({.model = "m", .command = "bittern chat m", .facts = {{"Text", "t"}}}, decision);
  EXPECT_NE(page.find("<h1>Run it as: w4&lt;&amp;&gt;</h1>"), std::string::npos);
  EXPECT_NE(page.find("the most tokens per second of one sequence among those that pass the bar"), std::string::npos);
  EXPECT_NE(page.find("memory 4.00 MiB, 2.00 times less, prompt 1.11 times slower, one sequence 3.00 times as fast"),
            std::string::npos)
      << page;
  EXPECT_NE(page.find("<code>bittern chat m</code>"), std::string::npos);
  EXPECT_EQ(count(page, "<tr class=\"worst\">"), 1);
  EXPECT_EQ(page.find("w4<&>"), std::string::npos) << "names are escaped";
}

TEST(TunePage, SaysWhenNothingIsRecommended) {
  DecisionOptions options;
  options.memory_limit = 1;
  Decision decision(options);
  decision.add({.candidate = *decision.next(), .peak_bytes = 8 << 20});
  const std::string page = tune_page({.model = "m"}, decision);
  EXPECT_NE(page.find("Nothing measured meets what was asked"), std::string::npos);
  EXPECT_EQ(page.find("<code>"), std::string::npos);
}

TEST(TuneColumns, LeaveOutWhatWasNotMeasuredOfAny) {
  const Decision decision = decided();
  const std::vector<std::string> columns = tune_columns(decision);
  EXPECT_NE(std::ranges::find(columns, "tasks"), columns.end());
  EXPECT_EQ(std::ranges::find(columns, "recall"), columns.end());
  for (const Measured& measured : decision.measured()) EXPECT_EQ(tune_cells(decision, measured).size(), columns.size());
}

TEST(TuneColumns, TellPassingFromFailing) {
  const Decision decision = decided(0.5);
  EXPECT_EQ(verdict(decision, decision.measured()[0]), "recommended");
  EXPECT_EQ(verdict(decision, decision.measured()[1]), "below the bar");
}

TEST(Scatter, PutsPointsWhereTheirValuesAre) {
  Scatter scatter{.label = "l", .x_axis = "x", .y_axis = "y"};
  scatter.points = {{0, 1, 0, true, "origin"}, {10, 1, 1, true, "right"}, {5, 1, 2, false, "between"}};
  const std::string svg = to_svg(scatter);
  std::smatch line;
  ASSERT_TRUE(std::regex_search(svg, line, std::regex("points=\"([0-9.]+),([0-9.]+) ([0-9.]+),([0-9.]+) \"")));
  EXPECT_LT(std::stod(line[1]), std::stod(line[3]));
  EXPECT_EQ(line[2], line[4]) << "equal values lie at equal heights";
  EXPECT_EQ(count(svg, "<title>"), 3);
}

TEST(Scatter, DrawsValuesThatALogarithmCannotHoldOnTheLowerEdge) {
  Scatter scatter{.log_y = true};
  scatter.points = {{1, 0, 0, true, "zero"}, {2, 1e-4, 1, true, "small"}, {3, 1e-2, 2, true, "large"}};
  const std::string svg = to_svg(scatter);
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  EXPECT_EQ(svg.find("inf"), std::string::npos);
  EXPECT_NE(svg.find(">0.001<"), std::string::npos) << "a tick of each decade";
}

TEST(Scatter, DrawsNothingWithoutPoints) { EXPECT_EQ(to_svg(Scatter{}).find("nan"), std::string::npos); }

}  // namespace
}  // namespace bittern::quant
