// Knapsack: one option for each item, so that the losses add up to the least that a capacity allows. It knows nothing
// of weights or bits.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace bittern::quant {

struct KnapsackOption {
  std::int64_t cost = 0;
  double loss = 0;
};

/// The option of every item (an index into its options), with costs that add up to at most `capacity` and, where the
/// greatest common divisor of the costs' differences leaves at most 2^17 steps, the least loss there is; otherwise
/// costs are rounded up to 2^17 steps, and what that leaves over is spent on the steps that save most for their cost.
/// Among equal losses the cheapest is taken. Empty when even the cheapest options cost more. Items must have options,
/// and losses be finite.
std::vector<std::size_t> solve_knapsack(std::span<const std::vector<KnapsackOption>> items, std::int64_t capacity);

/// Sum of the cheapest options.
std::int64_t least_cost(std::span<const std::vector<KnapsackOption>> items);

}  // namespace bittern::quant
