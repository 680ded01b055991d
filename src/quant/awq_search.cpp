// Candidates and their errors. Matrix products go through the backend, whose kernels are the fastest there are.
#include "quant/awq_search.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"

namespace bittern::quant {
namespace {

constexpr float kLeastScale = 1e-4f;
constexpr int kClipSteps = 11;  // 1, 0.95, ..., 0.5
constexpr float kClipStep = 0.05f;

void add_relative(const float* row, std::int64_t in, std::int64_t group, double* sums) {
  for (std::int64_t begin = 0; begin < in; begin += group) {
    const std::int64_t end = std::min(in, begin + group);
    float largest = 0;
    for (std::int64_t i = begin; i < end; ++i) largest = std::max(largest, std::fabs(row[i]));
    if (largest == 0) continue;
    for (std::int64_t i = begin; i < end; ++i) sums[i] += static_cast<double>(std::fabs(row[i]) / largest);
  }
}

}  // namespace

std::vector<float> relative_magnitudes(std::span<const Weight> weights, const GroupLayout& layout, ThreadPool& pool) {
  const std::int64_t in = weights.front().in, group = layout.group_of(in);
  std::vector<std::vector<double>> sums(static_cast<std::size_t>(pool.size()),
                                        std::vector<double>(static_cast<std::size_t>(in)));
  std::int64_t rows = 0;
  for (const Weight& weight : weights) {
    rows += weight.out;
    // One range per part and not per worker, so that the sums do not depend on who took which.
    pool.parallel_for(pool.size(), [&](int part, int) {
      const std::int64_t begin = weight.out * part / pool.size(), end = weight.out * (part + 1) / pool.size();
      for (std::int64_t r = begin; r < end; ++r)
        add_relative(weight.data.row<float>(r), in, group, sums[static_cast<std::size_t>(part)].data());
    });
  }
  std::vector<float> means(static_cast<std::size_t>(in));
  for (std::size_t i = 0; i < means.size(); ++i) {
    double sum = 0;
    for (const auto& part : sums) sum += part[i];
    means[i] = static_cast<float>(sum / static_cast<double>(rows));
  }
  return means;
}

std::vector<float> candidate_scales(std::span<const float> x, std::span<const float> w, float ratio, bool use_weights) {
  std::vector<float> scales(x.size(), 1.0F);
  float lo = std::numeric_limits<float>::max(), hi = 0;
  const auto usable = [&](std::size_t i) { return x[i] > 0 && std::isfinite(x[i]) && (!use_weights || w[i] > 0); };
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (!usable(i)) continue;
    const float s = std::pow(x[i], ratio) / (use_weights ? std::pow(w[i], 1 - ratio) : 1.0F);
    scales[i] = std::clamp(s, kLeastScale, 1 / kLeastScale);
    lo = std::min(lo, scales[i]);
    hi = std::max(hi, scales[i]);
  }
  if (hi == 0) return scales;
  const float middle = std::sqrt(lo * hi);
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (usable(i)) scales[i] = std::clamp(scales[i] / middle, kLeastScale, 1 / kLeastScale);
  }
  return scales;
}

void round_to_powers_of_two(std::span<float> scales) {
  for (float& scale : scales) scale = std::exp2(std::round(std::log2(scale)));
}

void round_with_scales(const Weight& weight, std::span<const float> scales, const GroupLayout& layout, ThreadPool& pool,
                       Weight& result) {
  if (result.out != weight.out || result.in != weight.in) {
    result = {};
    result = Weight::allocate(weight.name, Format::dense(DType::f32), weight.out, weight.in);
  }
  pool.parallel_ranges(weight.out, 1, [&](std::int64_t begin, std::int64_t end, int) {
    std::vector<float> scaled(static_cast<std::size_t>(weight.in));
    for (std::int64_t r = begin; r < end; ++r) {
      const float* source = weight.data.row<float>(r);
      float* target = result.data.row<float>(r);
      if (scales.empty()) {
        rtn_round_row(source, weight.in, layout, target);
        continue;
      }
      for (std::size_t i = 0; i < scaled.size(); ++i) scaled[i] = source[i] * scales[i];
      rtn_round_row(scaled.data(), weight.in, layout, target);
      for (std::size_t i = 0; i < scaled.size(); ++i) target[i] /= scales[i];
    }
  });
}

namespace {

/// One run of columns under clip_search(): the best factor so far of every row, and room for one candidate.
class ClipBlock {
 public:
  ClipBlock(const Weight& weight, std::int64_t begin, std::int64_t width, Backend& backend, ThreadPool& pool)
      : weight_(weight), begin_(begin), width_(width), backend_(backend), pool_(pool) {
    const auto size = static_cast<std::size_t>(weight.out * width);
    error_.resize(size);
    product_.resize(size);
    least_.assign(static_cast<std::size_t>(weight.out), std::numeric_limits<double>::infinity());
  }

  void set_gram(const float* gram, std::int64_t stride, std::span<const float> scales, double tokens) {
    Weight dense = Weight::allocate("gram", Format::dense(DType::f32), width_, width_);
    const auto factor = [&](std::int64_t i) {
      return scales.empty() ? 1.0 : 1.0 / static_cast<double>(scales[static_cast<std::size_t>(begin_ + i)]);
    };
    for (std::int64_t i = 0; i < width_; ++i) {
      for (std::int64_t j = 0; j < width_; ++j) {
        const double value = static_cast<double>(gram[i * stride + j]) * factor(i) * factor(j) / tokens;
        dense.data.row<float>(i)[j] = static_cast<float>(value);
      }
    }
    gram_ = backend_.prepare(dense);
  }

  void try_factor(float factor, const GroupLayout& layout, std::int64_t group, const Tensor& best) {
    GroupLayout whole = layout;
    whole.group_size = width_;
    pool_.parallel_ranges(weight_.out, 1, [&](std::int64_t from, std::int64_t to, int) {
      for (std::int64_t r = from; r < to; ++r) {
        const float* w = weight_.data.row<float>(r) + begin_;
        float* e = error_.data() + r * width_;
        rtn_round_row(w, width_, whole, e, &factor);
        for (std::int64_t i = 0; i < width_; ++i) e[i] = w[i] - e[i];
      }
    });
    backend_.linear(Tensor::of(product_.data(), DType::f32, weight_.out, width_),
                    Tensor::of(error_.data(), DType::f32, weight_.out, width_), *gram_, nullptr);
    backend_.synchronize();
    pool_.parallel_ranges(weight_.out, 1, [&](std::int64_t from, std::int64_t to, int) {
      for (std::int64_t r = from; r < to; ++r) keep_better(r, factor, group, best);
    });
  }

 private:
  void keep_better(std::int64_t r, float factor, std::int64_t group, const Tensor& best) {
    double loss = 0;
    for (std::int64_t i = r * width_; i < (r + 1) * width_; ++i) {
      loss += static_cast<double>(error_[static_cast<std::size_t>(i)]) *
              static_cast<double>(product_[static_cast<std::size_t>(i)]);
    }
    double& least = least_[static_cast<std::size_t>(r)];
    if (!(loss < least)) return;
    least = loss;
    best.row<float>(r)[group] = factor;
  }

  const Weight& weight_;
  std::int64_t begin_, width_;
  Backend& backend_;
  ThreadPool& pool_;
  std::vector<float> error_, product_;
  std::vector<double> least_;
  std::unique_ptr<PackedWeight> gram_;
};

}  // namespace

Weight clip_search(const Weight& weight, const ScaleGroup& inputs, std::span<const float> scales,
                   const GroupLayout& layout, Backend& backend, ThreadPool& pool) {
  const std::int64_t group = layout.group_of(weight.in), groups = (weight.in + group - 1) / group;
  BITTERN_CHECK(inputs.block == group && inputs.width == weight.in);
  Weight best = Weight::allocate(weight.name, Format::dense(DType::f32), weight.out, groups);
  std::fill_n(best.data.as<float>(), best.data.size(), 1.0F);
  for (std::int64_t g = 0; g < groups; ++g) {
    const std::int64_t begin = g * group, width = std::min(group, weight.in - begin);
    ClipBlock block(weight, begin, width, backend, pool);
    block.set_gram(inputs.gram.data() + g * group * group, group, scales, static_cast<double>(inputs.tokens));
    for (int step = 0; step < kClipSteps; ++step)
      block.try_factor(1.0F - kClipStep * static_cast<float>(step), layout, g, best.data);
  }
  return best;
}

}  // namespace bittern::quant
