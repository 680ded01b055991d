// The loops of logits.h. Reductions run in kLanes independent lanes that are folded in a fixed order: the vectorizer
// may keep them in registers, and the result does not depend on the width it chose.
#include "engine/logits.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace bittern::engine {
namespace {

constexpr std::size_t kLanes = 16;
constexpr std::size_t kBlock = 1024;  // floats summed in f32 before a double takes over: keeps the error near 1e-7
constexpr float kInfinity = std::numeric_limits<float>::infinity();

inline float exp_poly(float x) {
  constexpr float kLog2e = 1.44269504088896341f;
  constexpr float kLn2High = 0.693359375f;  // 9 bits, so that n * kLn2High is exact
  constexpr float kLn2Low = -2.12194440054690583e-4f;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest integer in the low mantissa bits
  const float clamped = x < -87.0f ? -87.0f : x;
  const float shifted = clamped * kLog2e + kRound;
  const float n = shifted - kRound;
  const float r = (clamped - n * kLn2High) - n * kLn2Low;  // |r| <= ln2 / 2
  // Taylor to r^7: the first term left out is below 6e-9.
  float p = 1.0f / 5040.0f;
  p = p * r + 1.0f / 720.0f;
  p = p * r + 1.0f / 120.0f;
  p = p * r + 1.0f / 24.0f;
  p = p * r + 1.0f / 6.0f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const std::int32_t exponent = static_cast<std::int32_t>(n) + 127;
  const float result = p * std::bit_cast<float>(exponent << 23);
  return x < -87.0f ? 0.0f : result;
}

double sum_in_lanes(const float* values, std::size_t n) {
  float lane[kLanes] = {};
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (std::size_t j = 0; j < kLanes; ++j) lane[j] += values[i + j];
  }
  for (std::size_t j = 0; i + j < n; ++j) lane[j] += values[i + j];
  double sum = 0;
  for (float value : lane) sum += value;
  return sum;
}

bool more_likely(const TokenLogprob& a, const TokenLogprob& b) {
  return a.logprob > b.logprob || (a.logprob == b.logprob && a.token < b.token);
}

}  // namespace

RowScan scan_row(std::span<const float> logits) {
  float lane[kLanes];
  std::int32_t bad[kLanes] = {};
  std::fill(std::begin(lane), std::end(lane), -kInfinity);
  const float* p = logits.data();
  const std::size_t n = logits.size();
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (std::size_t j = 0; j < kLanes; ++j) {
      const float value = p[i + j];
      lane[j] = value > lane[j] ? value : lane[j];
      bad[j] |= !(value < kInfinity);  // true for NaN as well
    }
  }
  for (std::size_t j = 0; i + j < n; ++j) {
    lane[j] = p[i + j] > lane[j] ? p[i + j] : lane[j];
    bad[j] |= !(p[i + j] < kInfinity);
  }
  RowScan scan{-kInfinity, true};
  for (std::size_t j = 0; j < kLanes; ++j) {
    scan.max = std::max(scan.max, lane[j]);
    scan.valid = scan.valid && bad[j] == 0;
  }
  return scan;
}

std::int32_t first_with(std::span<const float> logits, float max) {
  return static_cast<std::int32_t>(std::find(logits.begin(), logits.end(), max) - logits.begin());
}

float exp_negative(float x) { return exp_poly(x); }

void exp_weights(std::span<float> weights, std::span<const float> logits, float max, float inverse_temperature) {
  float* out = weights.data();
  const float* in = logits.data();
  const std::size_t n = logits.size();
  for (std::size_t i = 0; i < n; ++i) out[i] = exp_poly((in[i] - max) * inverse_temperature);
}

double sum_exp(std::span<const float> logits, float max, float inverse_temperature) {
  float weights[kBlock];
  double sum = 0;
  for (std::size_t begin = 0; begin < logits.size(); begin += kBlock) {
    const std::size_t n = std::min(kBlock, logits.size() - begin);
    exp_weights({weights, n}, logits.subspan(begin, n), max, inverse_temperature);
    sum += sum_in_lanes(weights, n);
  }
  return sum;
}

double log_sum_exp(std::span<const float> logits, float max) {
  return static_cast<double>(max) + std::log(sum_exp(logits, max, 1.0f));
}

void gather_at_least(std::span<const float> logits, float floor, std::vector<std::int32_t>& ids) {
  const float* p = logits.data();
  const std::size_t n = logits.size();
  for (std::size_t begin = 0; begin < n; begin += kLanes) {
    const std::size_t end = std::min(n, begin + kLanes);
    std::int32_t any = 0;
    for (std::size_t i = begin; i < end; ++i) any |= p[i] >= floor;
    if (any == 0) continue;
    for (std::size_t i = begin; i < end; ++i) {
      if (p[i] >= floor) ids.push_back(static_cast<std::int32_t>(i));
    }
  }
}

std::vector<TokenLogprob> most_likely(std::span<const float> logits, int count, double norm) {
  std::vector<TokenLogprob> best;
  const std::size_t wanted = std::min(static_cast<std::size_t>(count), logits.size());
  best.reserve(wanted + 1);
  float floor = -kInfinity;
  // Ids ascend, so an equal logit never displaces one already kept: ties go to the lower id.
  for (std::size_t i = 0; i < logits.size() && wanted > 0; ++i) {
    if (best.size() == wanted && !(logits[i] > floor)) continue;
    const TokenLogprob entry{static_cast<std::int32_t>(i), logits[i]};
    best.insert(std::upper_bound(best.begin(), best.end(), entry, more_likely), entry);
    if (best.size() > wanted) best.pop_back();
    floor = best.back().logprob;
  }
  for (TokenLogprob& entry : best) entry.logprob = static_cast<float>(entry.logprob - norm);
  return best;
}

}  // namespace bittern::engine
