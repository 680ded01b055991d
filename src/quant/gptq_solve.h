// GPTQ (Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers", 2022) over
// one linear, free of models and files: columns are rounded one after the other, and what a column loses is made up for
// by those that come after it, as the Hessian H = sum x x^T of the inputs says.
//
// The paper updates weights with rows of the Cholesky factor of H^-1. The same numbers come from the factor L of H
// itself (H = L L^T, the column that is rounded first in the last place): column c is rounded at
//   w_c + sum over rounded j of (w_j - q_j) L_jc / L_cc,
// which minimizes every component of L^T (w - q) in turn. So nothing is inverted. Which layouts can be stored is not
// decided here: groups are runs of inputs, whatever the order of the columns.
#pragma once

#include <bittern/quantize.h>

#include <cstdint>
#include <vector>

#include "backend/backend.h"
#include "base/thread_pool.h"
#include "quant/rtn.h"

namespace bittern::quant {

/// Sum of x x^T over tokens, in f32.
class Hessian {
 public:
  /// 4 * width * width bytes; width > 0.
  explicit Hessian(std::int64_t width);

  std::int64_t width() const { return width_; }
  /// Row i has its first i + 1 elements.
  float* row(std::int64_t i) { return values_.data() + i * width_; }
  const float* row(std::int64_t i) const { return values_.data() + i * width_; }

  /// x f32 (tokens, width), a slice of tokens at a time so that what add() holds is bounded (add_bytes).
  void add(const Tensor& x, Backend& backend, ThreadPool& pool);
  static std::int64_t add_bytes(std::int64_t width);

 private:
  std::int64_t width_;
  std::vector<float> values_;  // (width, width)
};

/// The factor of one Hessian, for all linears that take its input.
class GptqFactor {
 public:
  /// Factors in place of the Hessian's memory. Error(invalid_checkpoint) when the Hessian is not finite.
  GptqFactor(Hessian hessian, const GptqOptions& options, Backend& backend, ThreadPool& pool);

  std::int64_t width() const { return hessian_.width(); }
  bool act_order() const { return act_order_; }
  /// Column in each place; the last place is rounded first.
  const std::vector<std::int64_t>& order() const { return order_; }
  /// L_jc / L_cc for c < j, as row j.
  const float* row(std::int64_t j) const { return hessian_.row(j); }
  /// The damping that succeeded, as a part of the mean diagonal.
  double damping() const { return damping_; }
  /// Columns that were zero on all tokens: they are rounded to nearest.
  std::int64_t dead() const { return dead_; }

 private:
  void choose_order();
  void permute(ThreadPool& pool);
  bool factorize(float damping, Backend& backend, ThreadPool& pool);

  Hessian hessian_;  // the upper triangle keeps H while the lower one becomes L
  std::vector<float> diagonal_;
  bool act_order_;
  std::vector<std::int64_t> order_;
  double damping_ = 0;
  std::int64_t dead_ = 0;
};

/// rtn() with the errors made up for. `weight` dense f32 (out, in), in as the factor's width. Errors as rtn().
Weight gptq(const Weight& weight, const GptqFactor& factor, const GroupLayout& layout, Backend& backend,
            ThreadPool& pool);
/// Bytes gptq() holds beside the weight and its result.
std::int64_t gptq_solve_bytes(std::int64_t out, std::int64_t in, const GroupLayout& layout);

}  // namespace bittern::quant
