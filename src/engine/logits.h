// Loops over one row of logits: largest value, exponentials, log-sum-exp, the most likely tokens.
// They use only +, *, comparisons and a fixed order of summation, so a row gives the same bits on every machine, and
// are written in lanes that the compiler turns into vectors. What the numbers are used for is the sampler's business.
#pragma once

#include <bittern/request.h>

#include <cstdint>
#include <span>
#include <vector>

namespace bittern::engine {

struct RowScan {
  float max = 0;       // largest logit, -infinity when every one is
  bool valid = false;  // no NaN and no +infinity
};

/// Largest logit of a row and whether the row is usable at all.
RowScan scan_row(std::span<const float> logits);

/// Lowest id whose logit equals `max`.
std::int32_t first_with(std::span<const float> logits, float max);

/// exp(x) for x <= 0 within 2 units in the last place, the same bits everywhere (libm's expf differs between machines);
/// 0 below -87.
float exp_negative(float x);

/// weights[i] = exp((logits[i] - max) * inverse_temperature); max must be the largest.
void exp_weights(std::span<float> weights, std::span<const float> logits, float max, float inverse_temperature);

/// Sum of exp((logits[i] - max) * inverse_temperature).
double sum_exp(std::span<const float> logits, float max, float inverse_temperature);

/// log(sum(exp(logits))): what turns a logit into a log-probability.
double log_sum_exp(std::span<const float> logits, float max);

/// Appends to `ids` every index whose logit is at least `floor`, in order.
void gather_at_least(std::span<const float> logits, float floor, std::vector<std::int32_t>& ids);

/// The `count` most likely tokens, most likely first, lower id first on ties; `norm` is log_sum_exp of the row.
std::vector<TokenLogprob> most_likely(std::span<const float> logits, int count, double norm);

}  // namespace bittern::engine
