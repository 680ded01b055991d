// The budget of `bittern quantize` for people: a grid of bits, what they are expected to lose, and the memory they
// leave.
#pragma once

#include <bittern/quantize.h>

namespace bittern::cli {

/// To standard error, as part of the plan. `bits_per_weight` is what the choice came to.
void print_budget(const quant::BudgetPlan& budget, double bits_per_weight);

}  // namespace bittern::cli
