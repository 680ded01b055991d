// solve_knapsack() against all choices, at the edges of its capacity, and where steps are too many to be exact.
#include "quant/knapsack.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/random.h"

namespace bittern::quant {
namespace {

using Items = std::vector<std::vector<KnapsackOption>>;

struct Total {
  std::int64_t cost = 0;
  double loss = 0;
};

Total total(const Items& items, const std::vector<std::size_t>& chosen) {
  Total sum;
  for (std::size_t i = 0; i < items.size(); ++i) {
    sum.cost += items[i][chosen[i]].cost;
    sum.loss += items[i][chosen[i]].loss;
  }
  return sum;
}

/// The least loss of all choices; infinity when none fits.
double best_loss(const Items& items, std::int64_t capacity, std::size_t from = 0) {
  if (capacity < 0) return INFINITY;
  if (from == items.size()) return 0;
  double best = INFINITY;
  for (const KnapsackOption& option : items[from])
    best = std::min(best, option.loss + best_loss(items, capacity - option.cost, from + 1));
  return best;
}

/// Options that cost more lose less, as bits do, by `unit` at a time.
Items random_items(Random& random, std::size_t count, std::int64_t unit) {
  Items items(count);
  for (auto& options : items) {
    const double scale = std::exp(4 * random.next_double());
    const auto width = static_cast<std::int64_t>(1 + random.next_below(9));
    for (std::int64_t bits = 3; bits <= 6; ++bits)
      options.push_back(
          {unit * bits * width, scale * std::pow(4.0, static_cast<double>(-bits)) * random.next_double()});
  }
  return items;
}

TEST(Knapsack, FindsTheLeastLossOfAllChoices) {
  Random random(7);
  for (int round = 0; round < 200; ++round) {
    const Items items = random_items(random, 1 + random.next_below(6), 1 + random.next_below(1000));
    const std::int64_t least = least_cost(items);
    const std::int64_t capacity = least + random.next_below(static_cast<std::uint32_t>(least));
    const std::vector<std::size_t> chosen = solve_knapsack(items, capacity);
    ASSERT_EQ(chosen.size(), items.size());
    EXPECT_LE(total(items, chosen).cost, capacity);
    EXPECT_DOUBLE_EQ(total(items, chosen).loss, best_loss(items, capacity));
  }
}

TEST(Knapsack, TakesTheCheapestWhereNothingElseFitsAndNothingWhereNotEvenThat) {
  const Items items = {{{5, 1.0}, {3, 2.0}}, {{7, 0.5}, {4, 3.0}}};
  EXPECT_EQ(solve_knapsack(items, 7), (std::vector<std::size_t>{1, 1}));
  EXPECT_TRUE(solve_knapsack(items, 6).empty());
  EXPECT_EQ(solve_knapsack(items, 1'000'000), (std::vector<std::size_t>{0, 0}));
}

TEST(Knapsack, PaysNothingForNoGain) {
  const Items items = {{{1, 1.0}, {9, 1.0}}, {{2, 0.0}}};
  EXPECT_EQ(solve_knapsack(items, 100), (std::vector<std::size_t>{0, 0}));
}

TEST(Knapsack, KeepsToTheCapacityWithCostsThatHaveNoCommonStep) {
  Random random(3);
  for (int round = 0; round < 20; ++round) {
    Items items = random_items(random, 5, 100'000'007);
    for (auto& options : items) {
      for (KnapsackOption& option : options) option.cost += random.next_below(1000);
    }
    const std::int64_t least = least_cost(items);
    for (const std::int64_t room : {std::int64_t{0}, std::int64_t{1}, least / 3, least / 2}) {
      const std::int64_t capacity = least + room;
      const std::vector<std::size_t> chosen = solve_knapsack(items, capacity);
      ASSERT_EQ(chosen.size(), items.size());
      EXPECT_LE(total(items, chosen).cost, capacity);
      // Rounding up to steps costs less than one step for each item.
      const std::int64_t lost = room == 0 ? 0 : std::ssize(items) * (room / (1 << 17) + 1);
      const double bound = best_loss(items, std::max(least, capacity - lost));
      EXPECT_LE(total(items, chosen).loss, bound * (1 + 1e-12));
    }
  }
}

}  // namespace
}  // namespace bittern::quant
