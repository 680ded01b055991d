// The Hessian, its blocked Cholesky factorization in place, and the rounding that follows it. Matrix products go
// through the backend, whose kernels are the fastest there are; what is left is triangles of kBlock columns.
#include "quant/gptq_solve.h"

#include <bittern/error.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "base/check.h"

namespace bittern::quant {
namespace {

constexpr std::int64_t kBlock = 128;
constexpr std::int64_t kSlice = 512;  // tokens that are added to a Hessian at once
constexpr int kAttempts = 20;         // of the damping, which is 10^18 times the mean diagonal then

/// Columns of `matrix` [from, from + count) of rows [row, end), as a weight whose rows they are.
Weight transposed(const GptqFactor& factor, std::int64_t row, std::int64_t from, std::int64_t count) {
  Weight result = Weight::allocate("factor", Format::dense(DType::f32), count, factor.width() - row);
  for (std::int64_t j = row; j < factor.width(); ++j) {
    const float* source = factor.row(j) + from;
    for (std::int64_t c = 0; c < count; ++c) result.data.row<float>(c)[j - row] = source[c];
  }
  return result;
}

}  // namespace

Hessian::Hessian(std::int64_t width) : width_(width), values_(static_cast<std::size_t>(width * width)) {
  BITTERN_CHECK(width > 0);
}

std::int64_t Hessian::add_bytes(std::int64_t width) { return 4 * (width * (kSlice + kBlock) + 2 * kBlock * kSlice); }

void Hessian::add(const Tensor& x, Backend& backend, ThreadPool& pool) {
  BITTERN_CHECK(x.dtype == DType::f32 && x.rank == 2 && x.cols() == width_);
  std::vector<float> product(static_cast<std::size_t>(width_ * kBlock));
  for (std::int64_t first = 0; first < x.rows(); first += kSlice) {
    const std::int64_t tokens = std::min(kSlice, x.rows() - first);
    const Weight columns = Weight::allocate("inputs", Format::dense(DType::f32), width_, tokens);
    pool.parallel_ranges(width_, 16, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t t = 0; t < tokens; ++t) {
        const float* row = x.row<float>(first + t);
        for (std::int64_t c = begin; c < end; ++c) columns.data.row<float>(c)[t] = row[c];
      }
    });
    for (std::int64_t from = 0; from < width_; from += kBlock) {
      const std::int64_t count = std::min(kBlock, width_ - from), below = width_ - from;
      Weight strip = Weight::allocate("inputs", Format::dense(DType::f32), count, tokens);
      std::copy_n(columns.data.row<float>(from), count * tokens, strip.data.as<float>());
      const Tensor out = Tensor::of(product.data(), DType::f32, below, count);
      backend.linear(out, columns.data.slice(from, below), *backend.prepare(strip), nullptr);
      backend.synchronize();
      for (std::int64_t i = 0; i < below; ++i) {
        float* to = row(from + i) + from;
        for (std::int64_t c = 0; c < std::min(count, i + 1); ++c) to[c] += out.row<float>(i)[c];
      }
    }
  }
}

GptqFactor::GptqFactor(Hessian hessian, const GptqOptions& options, Backend& backend, ThreadPool& pool)
    : hessian_(std::move(hessian)), act_order_(options.act_order) {
  BITTERN_CHECK(options.damping > 0);
  double trace = 0;
  for (std::int64_t i = 0; i < width(); ++i) {
    const float value = hessian_.row(i)[i];
    trace += static_cast<double>(value);
    if (value == 0) ++dead_;
    diagonal_.push_back(value);
  }
  if (!std::isfinite(trace)) {
    throw Error(ErrorCode::invalid_checkpoint, "the inputs of a linear are not finite on the calibration tokens",
                "the checkpoint is damaged, or needs a wider type than it is run in");
  }
  choose_order();
  permute(pool);
  const double mean = trace > 0 ? trace / static_cast<double>(width()) : 1;
  damping_ = options.damping;
  int attempt = 1;
  while (!factorize(static_cast<float>(damping_ * mean), backend, pool)) {
    BITTERN_CHECK(++attempt <= kAttempts, "a Hessian of width {} has no factor", width());
    damping_ *= 10;
  }
}

/// The last place is rounded first; equal diagonals keep the order of the columns.
void GptqFactor::choose_order() {
  order_.resize(static_cast<std::size_t>(width()));
  std::iota(order_.rbegin(), order_.rend(), 0);
  if (!act_order_) return;
  std::ranges::stable_sort(order_, {},
                           [&](std::int64_t column) { return diagonal_[static_cast<std::size_t>(column)]; });
}

/// The whole matrix, rows and columns in the new order, without a second one.
void GptqFactor::permute(ThreadPool& pool) {
  const std::int64_t n = width();
  pool.parallel_for(static_cast<int>(n), [&](int i, int) {
    for (std::int64_t j = i + 1; j < n; ++j) hessian_.row(i)[j] = hessian_.row(j)[i];
  });
  const auto gather = [&](const float* from, float* to) {
    for (std::int64_t j = 0; j < n; ++j) to[j] = from[order_[static_cast<std::size_t>(j)]];
  };
  pool.parallel_ranges(n, 1, [&](std::int64_t begin, std::int64_t end, int) {
    std::vector<float> copy(static_cast<std::size_t>(n));
    for (std::int64_t i = begin; i < end; ++i) {
      std::copy_n(hessian_.row(i), n, copy.data());
      gather(copy.data(), hessian_.row(i));
    }
  });
  std::vector<bool> moved(static_cast<std::size_t>(n));
  std::vector<float> first(static_cast<std::size_t>(n));
  for (std::int64_t start = 0; start < n; ++start) {
    if (moved[static_cast<std::size_t>(start)]) continue;
    std::copy_n(hessian_.row(start), n, first.data());
    std::int64_t i = start;
    for (; order_[static_cast<std::size_t>(i)] != start; i = order_[static_cast<std::size_t>(i)]) {
      std::copy_n(hessian_.row(order_[static_cast<std::size_t>(i)]), n, hessian_.row(i));
      moved[static_cast<std::size_t>(i)] = true;
    }
    std::copy_n(first.data(), n, hessian_.row(i));
    moved[static_cast<std::size_t>(i)] = true;
  }
  const std::vector<float> diagonal = diagonal_;
  gather(diagonal.data(), diagonal_.data());
}

namespace {

/// Factors the count x count triangle at (from, from). In exact arithmetic no pivot is below the damping, so one that
/// is below half of it says that rounding has taken over.
bool factor_triangle(Hessian& matrix, std::int64_t from, std::int64_t count, float damping) {
  for (std::int64_t i = 0; i < count; ++i) {
    float* row = matrix.row(from + i) + from;
    for (std::int64_t j = 0; j <= i; ++j) {
      const float* other = matrix.row(from + j) + from;
      double sum = static_cast<double>(row[j]);
      for (std::int64_t k = 0; k < j; ++k) sum -= static_cast<double>(row[k]) * static_cast<double>(other[k]);
      if (j < i) {
        row[j] = static_cast<float>(sum / static_cast<double>(other[j]));
      } else {
        if (!(sum >= 0.5 * static_cast<double>(damping)) || !std::isfinite(sum)) return false;
        row[i] = static_cast<float>(std::sqrt(sum));
      }
    }
  }
  return true;
}

/// Rows below a factored triangle: x with x . triangle^T = row, in place.
void solve_below(Hessian& matrix, std::int64_t from, std::int64_t count, ThreadPool& pool) {
  std::vector<float> columns(static_cast<std::size_t>(count * count));  // of the triangle, one after the other
  for (std::int64_t i = 0; i < count; ++i) {
    for (std::int64_t j = 0; j <= i; ++j)
      columns[static_cast<std::size_t>(j * count + i)] = matrix.row(from + i)[from + j];
  }
  const std::int64_t below = matrix.width() - from - count;
  pool.parallel_ranges(below, 1, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      float* row = matrix.row(from + count + i) + from;
      for (std::int64_t j = 0; j < count; ++j) {
        const float* column = columns.data() + j * count;
        row[j] /= column[j];
        for (std::int64_t k = j + 1; k < count; ++k) row[k] -= row[j] * column[k];
      }
    }
  });
}

/// Takes the products with all columns before `from` away from the columns [from, from + count) of all rows below.
void subtract_products(Hessian& matrix, std::int64_t from, std::int64_t count, std::vector<float>& scratch,
                       Backend& backend) {
  if (from == 0) return;
  const std::int64_t n = matrix.width(), below = n - from;
  Weight panel = Weight::allocate("panel", Format::dense(DType::f32), count, from);
  for (std::int64_t i = 0; i < count; ++i) std::copy_n(matrix.row(from + i), from, panel.data.row<float>(i));
  const Tensor rows = Tensor::of(matrix.row(from), DType::f32, below, n).columns(0, from);
  const Tensor out = Tensor::of(scratch.data(), DType::f32, below, count);
  backend.linear(out, rows, *backend.prepare(panel), nullptr);
  backend.synchronize();
  for (std::int64_t i = 0; i < below; ++i) {
    float* to = matrix.row(from + i) + from;
    for (std::int64_t c = 0; c < std::min(count, i + 1); ++c) to[c] -= out.row<float>(i)[c];
  }
}

}  // namespace

bool GptqFactor::factorize(float damping, Backend& backend, ThreadPool& pool) {
  const std::int64_t n = width();
  pool.parallel_for(static_cast<int>(n), [&](int i, int) {
    for (std::int64_t j = 0; j < i; ++j) hessian_.row(i)[j] = hessian_.row(j)[i];
    hessian_.row(i)[i] = diagonal_[static_cast<std::size_t>(i)] + damping;
  });
  std::vector<float> scratch(static_cast<std::size_t>(n * kBlock));
  for (std::int64_t from = 0; from < n; from += kBlock) {
    const std::int64_t count = std::min(kBlock, n - from);
    subtract_products(hessian_, from, count, scratch, backend);
    if (!factor_triangle(hessian_, from, count, damping)) return false;
    solve_below(hessian_, from, count, pool);
  }
  std::vector<float> inverse(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) inverse[static_cast<std::size_t>(i)] = 1 / hessian_.row(i)[i];
  pool.parallel_for(static_cast<int>(n), [&](int i, int) {
    for (std::int64_t j = 0; j <= i; ++j) hessian_.row(i)[j] *= inverse[static_cast<std::size_t>(j)];
  });
  return true;
}

namespace {

/// Columns rounded between two products: whole groups, so that a group which begins is in the block, unless it is the
/// whole row, which begins before anything was rounded.
std::int64_t block_of(std::int64_t in, const GroupLayout& layout) {
  const std::int64_t group = layout.group_of(in);
  if (group >= in) return std::min(in, kBlock);
  return group > kBlock ? group : kBlock / group * group;
}

class Rounding {
 public:
  Rounding(const Weight& weight, const GptqFactor& factor, const GroupLayout& layout, Backend& backend,
           ThreadPool& pool)
      : weight_(weight),
        factor_(factor),
        layout_(layout),
        backend_(backend),
        pool_(pool),
        group_(layout.group_of(weight.in)),
        block_(block_of(weight.in, layout)),
        result_(allocate_codes(weight, layout)),
        errors_(static_cast<std::size_t>(weight.out * weight.in)),
        adjusted_(static_cast<std::size_t>(weight.out * block_)) {}

  Weight run() {
    if (factor_.act_order()) fix_groups();
    for (std::int64_t end = weight_.in; end > 0; end -= std::min(end, block_)) {
      const std::int64_t begin = std::max<std::int64_t>(0, end - block_);
      make_up_for_errors(begin, end);
      pool_.parallel_ranges(weight_.out, 1, [&](std::int64_t first, std::int64_t last, int) {
        for (std::int64_t r = first; r < last; ++r) round_row(r, begin, end);
      });
    }
    return std::move(result_);
  }

 private:
  void set_group(std::int64_t r, std::int64_t g, std::span<const float> values) {
    const GroupParameters p = group_parameters(weight_, r, g, values, layout_);
    result_.scales.row<float>(r)[g] = p.scale;
    result_.zeros.row<std::uint8_t>(r)[g] = static_cast<std::uint8_t>(p.zero);
  }

  void fix_groups() {
    pool_.parallel_ranges(weight_.out, 1, [&](std::int64_t first, std::int64_t last, int) {
      for (std::int64_t r = first; r < last; ++r) {
        const std::span<const float> row(weight_.data.row<float>(r), static_cast<std::size_t>(weight_.in));
        for (std::int64_t begin = 0; begin < weight_.in; begin += group_)
          set_group(r, begin / group_, row.subspan(static_cast<std::size_t>(begin), length_of(begin)));
      }
    });
  }

  /// Columns of the group that begins at column `begin`.
  std::size_t length_of(std::int64_t begin) const {
    return static_cast<std::size_t>(std::min(group_, weight_.in - begin));
  }

  /// What the columns rounded so far ask of places [begin, end), for every row.
  void make_up_for_errors(std::int64_t begin, std::int64_t end) {
    const std::int64_t count = end - begin, done = weight_.in - end;
    std::fill(adjusted_.begin(), adjusted_.end(), 0.0F);
    if (done == 0) return;
    const auto packed = backend_.prepare(transposed(factor_, end, begin, count));
    const Tensor errors = Tensor::of(errors_.data(), DType::f32, weight_.out, weight_.in).columns(end, done);
    backend_.linear(Tensor::of(adjusted_.data(), DType::f32, weight_.out, count), errors, *packed, nullptr);
    backend_.synchronize();
  }

  void round_row(std::int64_t r, std::int64_t begin, std::int64_t end) {
    float* adjusted = adjusted_.data() + r * (end - begin);
    float* errors = errors_.data() + r * weight_.in;
    const float* weights = weight_.data.row<float>(r);
    for (std::int64_t p = begin; p < end; ++p)
      adjusted[p - begin] += weights[factor_.order()[static_cast<std::size_t>(p)]];
    for (std::int64_t p = end - 1; p >= begin; --p) {
      const std::int64_t column = factor_.order()[static_cast<std::size_t>(p)], g = column / group_;
      if (!factor_.act_order() && column % group_ == 0) begin_group(r, column, p, adjusted + (p - begin));
      const GroupParameters parameters = {result_.scales.row<float>(r)[g],
                                          static_cast<float>(result_.zeros.row<std::uint8_t>(r)[g]),
                                          static_cast<float>((1 << layout_.bits) - 1)};
      const float code = parameters.code_of(adjusted[p - begin]);
      result_.set_code(r, column, static_cast<std::uint8_t>(code));
      errors[p] = weights[column] - parameters.decode(code);
      const float* factors = factor_.row(p) + begin;
      for (std::int64_t c = 0; c < p - begin; ++c) adjusted[c] += errors[p] * factors[c];
    }
  }

  /// Where the columns of the group would move before any of them is rounded: each takes the moves of those before it
  /// for errors. Places run against columns, so the group's first column is at `place`, the last of the places.
  void begin_group(std::int64_t r, std::int64_t column, std::int64_t place, const float* adjusted) {
    const auto length = static_cast<std::int64_t>(length_of(column)), low = place + 1 - length;
    const float* weights = weight_.data.row<float>(r);
    if (group_ >= weight_.in) return set_group(r, 0, {weights, length_of(column)});
    std::vector<float> moved(adjusted + 1 - length, adjusted + 1);
    for (std::int64_t p = place; p >= low; --p) {
      const float move =
          weights[factor_.order()[static_cast<std::size_t>(p)]] - moved[static_cast<std::size_t>(p - low)];
      const float* factors = factor_.row(p) + low;
      for (std::int64_t c = 0; c < p - low; ++c) moved[static_cast<std::size_t>(c)] += move * factors[c];
    }
    set_group(r, column / group_, moved);
  }

  const Weight& weight_;
  const GptqFactor& factor_;
  const GroupLayout& layout_;
  Backend& backend_;
  ThreadPool& pool_;
  std::int64_t group_, block_;
  Weight result_;
  std::vector<float> errors_;    // (out, in) by place: weight less what it was rounded to
  std::vector<float> adjusted_;  // (out, block) by place
};

}  // namespace

Weight gptq(const Weight& weight, const GptqFactor& factor, const GroupLayout& layout, Backend& backend,
            ThreadPool& pool) {
  BITTERN_CHECK(weight.format == Format::dense(DType::f32) && weight.in == factor.width());
  return Rounding(weight, factor, layout, backend, pool).run();
}

std::int64_t gptq_solve_bytes(std::int64_t out, std::int64_t in, const GroupLayout& layout) {
  const std::int64_t block = block_of(in, layout);
  return 4 * (out * in + out * block + 2 * block * in);
}

}  // namespace bittern::quant
