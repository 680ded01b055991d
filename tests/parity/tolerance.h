// How far a correct kernel may be from the reference, derived from the numbers that enter a sum, never guessed per
// test. A dot product of K terms in f32 rounds K times; the rounding errors have random signs, so their sum grows with
// sqrt(K) times the size of the partial sums, which |x| |w| (Cauchy-Schwarz) bounds. kSlack covers the spread: a bound
// of several standard deviations over the some hundred thousand outputs the table checks. A wrong element, nibble,
// scale or neighbour changes a result by its own size, orders of magnitude more.
#pragma once

#include <algorithm>
#include <cmath>

#include "tensor/weight.h"

namespace bittern::parity {

inline constexpr double kEps = 0x1p-24;  // largest relative error of one f32 rounding
inline constexpr double kSlack = 4;

/// Of one output of a linear: `x_norm` and `w_norm` are 2-norms over `inputs`.
inline double linear_tolerance(double x_norm, double w_norm, std::int64_t inputs) {
  return kSlack * kEps * std::sqrt(static_cast<double>(inputs)) * x_norm * w_norm + 1e-30;
}

/// The size of what a kernel may sum for one weight of a group. Integer codes of b bits may be summed as s(q-c)x and
/// s(c-z)x apart, for any c of 0..2^b-1, or as sqx and offset x, so each counts with the largest such product instead
/// of its own, much smaller value. Other codes are summed as they are.
inline double summed_value(const Weight& w, const Weight& decoded, std::int64_t n, std::int64_t i) {
  if (w.format.kind == FormatKind::dense) return decoded.data.row<float>(n)[i];
  const std::int64_t g = i / w.format.group_size;
  const double scale = w.scales.row<float>(n)[g];
  if (w.format.codes != Codes::integer) return scale * code_value(w.format.codes, w.code(n, i));
  const double offset = w.offsets.rank != 0 ? std::abs(w.offsets.row<float>(n)[g]) : 0;
  return scale * (1 << w.format.bits) + offset;
}

/// 2-norm of that over output `n`.
inline double summed_norm(const Weight& w, const Weight& decoded, std::int64_t n) {
  double sum = 0;
  for (std::int64_t i = 0; i < w.in; ++i) {
    const double value = summed_value(w, decoded, n, i);
    sum += value * value;
  }
  return std::sqrt(sum);
}

/// What a kernel that rounds activations to bf16 adds: each x is off by at most 2^-8 of itself, and by Cauchy-Schwarz
/// the products by at most that of |x| |w|.
inline double bf16_rounding(double x_norm, double w_norm) { return 0x1p-8 * x_norm * w_norm; }

/// What a kernel that rounds activations to 8 bits per group adds: within a group each x is off by at most half a step
/// of max|x| / 127. `x` has w.in values.
inline double int8_rounding(const Weight& w, const Weight& decoded, std::int64_t n, const float* x) {
  double total = 0;
  for (std::int64_t begin = 0; begin < w.in; begin += w.format.group_size) {
    const std::int64_t end = std::min(w.in, begin + w.format.group_size);
    double x_max = 0, w_squares = 0;
    for (std::int64_t column = begin; column < end; ++column) {
      const std::int64_t i = w.input_order.rank != 0 ? w.input_order.as<std::int32_t>()[column] : column;
      x_max = std::max(x_max, std::abs(static_cast<double>(x[i])));
      w_squares += static_cast<double>(decoded.data.row<float>(n)[i]) * decoded.data.row<float>(n)[i];
    }
    total += std::sqrt(w_squares * static_cast<double>(end - begin)) * x_max / 254;
  }
  return total;
}

/// Relative error of one attention weight. A score q.k has the error of a dot product of `dim` terms; exp turns an
/// absolute error of the score into a relative one of the weight, and rounds the score itself once more.
inline double attention_weight_error(double q_norm, double k_norm, std::int64_t dim, double scale) {
  const double score = std::abs(scale) * q_norm * k_norm;
  return kSlack * kEps * (std::sqrt(static_cast<double>(dim)) * score + score + 4);
}

/// Of one output of attention over `tokens` values of size at most `v_max`: weights sum to one, so their errors cost at
/// most twice (numerator and sum), and the sums over tokens round like any other.
inline double attention_tolerance(double weight_error, std::int64_t tokens, double v_max) {
  return (2 * weight_error + kSlack * kEps * std::sqrt(static_cast<double>(tokens))) * v_max + 1e-30;
}

}  // namespace bittern::parity
