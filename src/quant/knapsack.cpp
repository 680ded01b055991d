// Dynamic programming over the capacity in steps: best[c] is the least loss of the items so far at a cost of at most c
// steps beyond that of their cheapest options.
#include "quant/knapsack.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/check.h"

namespace bittern::quant {
namespace {

constexpr std::int64_t kSteps = std::int64_t{1} << 17;

using Items = std::span<const std::vector<KnapsackOption>>;

std::int64_t cheapest(const std::vector<KnapsackOption>& options) {
  BITTERN_CHECK(!options.empty());
  return std::ranges::min(options, {}, &KnapsackOption::cost).cost;
}

std::int64_t common_divisor(Items items) {
  std::int64_t divisor = 0;
  for (const auto& options : items) {
    for (const KnapsackOption& option : options) divisor = std::gcd(divisor, option.cost - cheapest(options));
  }
  return std::max<std::int64_t>(divisor, 1);
}

/// What no choice can exceed: more room than that is of no use.
std::int64_t largest_extra(Items items) {
  std::int64_t sum = 0;
  for (const auto& options : items) {
    sum += std::ranges::max(options, {}, &KnapsackOption::cost).cost - cheapest(options);
  }
  return sum;
}

std::int64_t in_steps(std::int64_t cost, std::int64_t step) { return (cost + step - 1) / step; }

/// The options that dynamic programming chooses with room for `steps` steps of `step`.
std::vector<std::size_t> choose(Items items, std::int64_t steps, std::int64_t step) {
  const auto width = static_cast<std::size_t>(steps + 1);
  std::vector<double> best(width, 0.0), next(width);
  std::vector<std::uint8_t> taken(items.size() * width);
  for (std::size_t i = 0; i < items.size(); ++i) {
    BITTERN_CHECK(items[i].size() <= 256);
    std::ranges::fill(next, std::numeric_limits<double>::infinity());
    const std::int64_t base = cheapest(items[i]);
    for (std::size_t o = 0; o < items[i].size(); ++o) {
      BITTERN_CHECK(std::isfinite(items[i][o].loss));
      const auto extra = static_cast<std::size_t>(in_steps(items[i][o].cost - base, step));
      for (std::size_t c = extra; c < width; ++c) {
        const double loss = best[c - extra] + items[i][o].loss;
        if (loss < next[c]) next[c] = loss, taken[i * width + c] = static_cast<std::uint8_t>(o);
      }
    }
    best.swap(next);
  }
  // The least room that reaches the least loss.
  auto c = static_cast<std::size_t>(std::ranges::find(best, best.back()) - best.begin());
  std::vector<std::size_t> chosen(items.size());
  for (std::size_t i = items.size(); i-- > 0;) {
    chosen[i] = taken[i * width + c];
    c -= static_cast<std::size_t>(in_steps(items[i][chosen[i]].cost - cheapest(items[i]), step));
  }
  return chosen;
}

/// Spends `room` on the exchanges that save most for their cost, one after another.
void spend(Items items, std::int64_t room, std::vector<std::size_t>& chosen) {
  while (true) {
    double best = 0;
    std::size_t item = items.size(), option = 0;
    for (std::size_t i = 0; i < items.size(); ++i) {
      const KnapsackOption& now = items[i][chosen[i]];
      for (std::size_t o = 0; o < items[i].size(); ++o) {
        const std::int64_t extra = items[i][o].cost - now.cost;
        const double saved = now.loss - items[i][o].loss;
        if (saved <= 0 || extra > room) continue;
        const double rate = saved / static_cast<double>(std::max<std::int64_t>(extra, 1));
        if (rate > best) best = rate, item = i, option = o;
      }
    }
    if (item == items.size()) return;
    room -= items[item][option].cost - items[item][chosen[item]].cost;
    chosen[item] = option;
  }
}

}  // namespace

std::int64_t least_cost(Items items) {
  std::int64_t sum = 0;
  for (const auto& options : items) sum += cheapest(options);
  return sum;
}

std::vector<std::size_t> solve_knapsack(Items items, std::int64_t capacity) {
  const std::int64_t room = std::min(capacity - least_cost(items), largest_extra(items));
  if (room < 0) return {};
  const std::int64_t divisor = common_divisor(items);
  const std::int64_t step = std::max(divisor, in_steps(in_steps(room, kSteps), divisor) * divisor);
  std::vector<std::size_t> chosen = choose(items, room / step, step);
  if (step == divisor) return chosen;
  std::int64_t spent = 0;
  for (std::size_t i = 0; i < items.size(); ++i) spent += items[i][chosen[i]].cost - cheapest(items[i]);
  spend(items, room - spent, chosen);
  return chosen;
}

}  // namespace bittern::quant
