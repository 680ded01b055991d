// Round to nearest: each group of weights along the input is mapped to the integers between its extremes, zero always
// included (the definition of W4A16). No data is needed. Other algorithms choose other weights or ranges and end here.
#pragma once

#include <cstdint>
#include <span>

#include "base/thread_pool.h"
#include "tensor/weight.h"

namespace bittern::quant {

/// Which integers a group of weights is mapped to.
struct GroupLayout {
  int bits = 4;                    // 2 to 8
  std::int64_t group_size = 128;   // >= 1, or -1 for one group per row; a last group may be shorter
  bool symmetric = false;          // the zero is 2^(bits-1) and the scale 2 max|w| / (2^bits - 1)
  DType scale_dtype = DType::f16;  // f16, bf16 or f32: the scale is rounded to it before codes are computed
  bool int8_activations = false;   // passed on to the Format

  /// Inputs per group of a row of `in` inputs.
  std::int64_t group_of(std::int64_t in) const { return group_size == -1 ? in : group_size; }
};

/// Nearest integer, ties to even, of |x| < 2^22. Adding 1.5 * 2^23 leaves no bits for a fraction; the baseline
/// instruction set has no rounding instruction that the compiler could use for nearbyint.
inline float round_even(float x) {
  constexpr float kMagic = 12582912.0f;
  return (x + kMagic) - kMagic;
}

/// std::clamp by value: compilers do not vectorize the one that returns references.
inline float clamped(float x, float lo, float hi) {
  const float above = x < lo ? lo : x;
  return hi < above ? hi : above;
}

/// The integers of one group: scale and zero (a whole number), codes 0 to levels.
struct GroupParameters {
  float scale = 1, zero = 0, levels = 15;

  /// clamp(round(w / scale) + zero, 0, levels), ties to even. Far outside weights are clipped first, for round_even().
  float code_of(float w) const { return clamped(round_even(clamped(w / scale, -512.0f, 512.0f)) + zero, 0.0f, levels); }
  float decode(float code) const { return (code - zero) * scale; }
};

/// Parameters of `values` as rtn() gives them, lo and hi multiplied by `shrink`. `weight`, `row` and `group` name the
/// place in errors, which are those of rtn().
GroupParameters group_parameters(const Weight& weight, std::int64_t row, std::int64_t group,
                                 std::span<const float> values, const GroupLayout& layout, float shrink = 1);

/// Makes the empty result of rtn() for a weight.
Weight allocate_codes(const Weight& weight, const GroupLayout& layout);

/// Quantizes a dense f32 weight (out, in), rows in parallel, with n = 2^bits - 1:
///   lo = min(0, min w), hi = max(0, max w), s = max(hi - lo, 1e-5) / n,
///   z = clamp(round(-lo / s), 0, n), q = clamp(round(w / s) + z, 0, n), decoded as (q - z) * s;
/// f32 arithmetic, ties round to even. `shrink` f32 (out, groups), may be null: lo and hi are multiplied by it first,
/// so that weights outside are clipped. Errors: invalid_checkpoint naming the weight when one is not finite or its
/// scale overflows the scale's type.
Weight rtn(const Weight& weight, const GroupLayout& layout, ThreadPool& pool, const Tensor* shrink = nullptr);

/// What rtn() would decode to, without making codes: dst (in) from one row src (in). `shrink` (groups) may be null.
/// Values that are not finite give values that are not finite.
void rtn_round_row(const float* src, std::int64_t in, const GroupLayout& layout, float* dst,
                   const float* shrink = nullptr);

/// rtn() with 4 bits, asymmetric.
inline Weight rtn_int4(const Weight& weight, std::int64_t group_size, DType scale_dtype, ThreadPool& pool) {
  return rtn(weight, {4, group_size, false, scale_dtype, false}, pool);
}

}  // namespace bittern::quant
