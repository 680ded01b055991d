// GPTQ against the method it is derived from, written out in f64, and against round-to-nearest on what it minimizes.
#include "quant/gptq_solve.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <random>

#include "support/expect_error.h"

namespace bittern::quant {
namespace {

using Matrix = std::vector<std::vector<double>>;

ThreadPool& pool() {
  static ThreadPool threads(2);
  return threads;
}

Backend& backend() {
  static const auto cpu = [] {
    BackendOptions options;
    options.threads = 2;
    return make_backend("cpu", options);
  }();
  return *cpu;
}

/// Values whose neighbours are alike: (rows, columns).
std::vector<float> correlated(std::int64_t rows, std::int64_t columns, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0, 1);
  std::vector<float> values;
  for (std::int64_t t = 0; t < rows; ++t) {
    float last = normal(generator);
    for (std::int64_t c = 0; c < columns; ++c) {
      last = 0.9F * last + 0.4F * normal(generator);
      values.push_back(last * (1 + static_cast<float>(c % 5)));
    }
  }
  return values;
}

Weight random_weight(std::int64_t out, std::int64_t in, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0, 0.05F);
  Weight weight = Weight::allocate("w", Format::dense(DType::f32), out, in);
  for (std::int64_t i = 0; i < weight.data.size(); ++i) weight.data.as<float>()[i] = normal(generator);
  return weight;
}

Hessian hessian_of(std::vector<float> x, std::int64_t width) {
  Hessian hessian(width);
  hessian.add(Tensor::of(x.data(), DType::f32, static_cast<std::int64_t>(x.size()) / width, width), backend(), pool());
  return hessian;
}

Matrix gram(const std::vector<float>& x, std::size_t width) {
  Matrix h(width, std::vector<double>(width));
  for (std::size_t t = 0; t < x.size() / width; ++t) {
    for (std::size_t i = 0; i < width; ++i) {
      for (std::size_t j = 0; j < width; ++j)
        h[i][j] += static_cast<double>(x[t * width + i]) * static_cast<double>(x[t * width + j]);
    }
  }
  return h;
}

/// Gauss-Jordan elimination.
Matrix inverse(Matrix a) {
  const std::size_t n = a.size();
  for (std::size_t i = 0; i < n; ++i) {
    a[i].resize(2 * n);
    a[i][n + i] = 1;
  }
  for (std::size_t i = 0; i < n; ++i) {
    const double pivot = a[i][i];
    for (double& v : a[i]) v /= pivot;
    for (std::size_t r = 0; r < n; ++r) {
      if (r == i) continue;
      const double factor = a[r][i];
      for (std::size_t c = 0; c < 2 * n; ++c) a[r][c] -= factor * a[i][c];
    }
  }
  for (auto& row : a) row.erase(row.begin(), row.begin() + static_cast<std::ptrdiff_t>(n));
  return a;
}

/// Optimal Brain Quantization in a fixed order (the definition, section 2 of the paper): after column c is rounded,
/// all that are left move by -(w_c - q_c) / Hinv_cc * Hinv_c, with Hinv of the columns that are left.
std::vector<double> obq(std::vector<double> w, const Matrix& h, const std::vector<std::size_t>& order,
                        const std::function<double(std::size_t, const std::vector<double>&)>& round) {
  std::vector<std::size_t> left = order;
  std::vector<double> q(w.size());
  while (!left.empty()) {
    Matrix part(left.size(), std::vector<double>(left.size()));
    for (std::size_t i = 0; i < left.size(); ++i) {
      for (std::size_t j = 0; j < left.size(); ++j) part[i][j] = h[left[i]][left[j]];
    }
    const Matrix inv = inverse(part);
    const std::size_t c = left.front();
    q[c] = round(c, w);
    const double error = (w[c] - q[c]) / inv[0][0];
    for (std::size_t j = 0; j < left.size(); ++j) w[left[j]] -= error * inv[0][j];
    left.erase(left.begin());
  }
  return q;
}

struct Case {
  std::int64_t in, group;
  bool act_order, symmetric;
};

class GptqEqualsObq : public ::testing::TestWithParam<Case> {};

TEST_P(GptqEqualsObq, OnEveryWeight) {
  const auto [in, group, act_order, symmetric] = GetParam();
  const auto n = static_cast<std::size_t>(in);
  const std::vector<float> x = correlated(3 * in, in, 1);
  const Weight weight = random_weight(2, in, 2);
  const GroupLayout layout = {4, group, symmetric, DType::f32, false};
  const GptqFactor factor(hessian_of(x, in), {0.01, act_order}, backend(), pool());
  EXPECT_DOUBLE_EQ(factor.damping(), 0.01);
  const Weight decoded = to_f32(gptq(weight, factor, layout, backend(), pool()));

  Matrix h = gram(x, n);
  double mean = 0;
  for (std::size_t i = 0; i < n; ++i) mean += h[i][i] / static_cast<double>(n);
  std::vector<std::size_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  if (act_order) std::ranges::sort(order, [&](std::size_t a, std::size_t b) { return h[a][a] > h[b][b]; });
  for (std::size_t i = 0; i < n; ++i) h[i][i] += 0.01 * mean;
  for (std::int64_t r = 0; r < 2; ++r) {
    const float* row = weight.data.row<float>(r);
    GroupParameters p;
    const auto round = [&](std::size_t c, const std::vector<double>& w) {
      const std::size_t size = static_cast<std::size_t>(layout.group_of(in)), first = c / size * size;
      if (act_order || c == first) {
        std::vector<float> values;
        for (std::size_t i = first; i < std::min(n, first + size); ++i)
          values.push_back(act_order ? row[i] : static_cast<float>(w[i]));
        p = group_parameters(weight, r, 0, values, layout);
      }
      return static_cast<double>(p.decode(p.code_of(static_cast<float>(w[c]))));
    };
    const std::vector<double> expected = obq({row, row + in}, h, order, round);
    for (std::size_t i = 0; i < n; ++i) EXPECT_NEAR(decoded.data.row<float>(r)[i], expected[i], 1e-5) << r << " " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, GptqEqualsObq,
                         ::testing::Values(Case{8, 4, false, false}, Case{8, 4, true, false}, Case{8, -1, false, true},
                                           Case{8, -1, true, true}, Case{20, 8, false, false}, Case{20, 8, true, true},
                                           Case{150, 32, false, false}, Case{150, 32, true, false},
                                           Case{150, 140, false, false}, Case{150, -1, false, false}));

/// sum over rows of e^T H e on the inputs themselves.
double loss(const Weight& weight, const Weight& quantized, const std::vector<float>& x) {
  const Weight decoded = to_f32(quantized);
  double sum = 0;
  for (std::size_t t = 0; t < x.size() / static_cast<std::size_t>(weight.in); ++t) {
    for (std::int64_t r = 0; r < weight.out; ++r) {
      double dot = 0;
      for (std::int64_t i = 0; i < weight.in; ++i) {
        dot += static_cast<double>(weight.data.row<float>(r)[i] - decoded.data.row<float>(r)[i]) *
               static_cast<double>(x[t * static_cast<std::size_t>(weight.in) + static_cast<std::size_t>(i)]);
      }
      sum += dot * dot;
    }
  }
  return sum;
}

TEST(Gptq, LosesFarLessThanRoundToNearestOnCorrelatedInputs) {
  const std::vector<float> x = correlated(600, 300, 3);
  const Weight weight = random_weight(16, 300, 4);
  for (const bool act_order : {false, true}) {
    for (const int bits : {3, 4, 8}) {
      const GroupLayout layout = {bits, 64, false, DType::f16, false};
      const GptqFactor factor(hessian_of(x, 300), {0.01, act_order}, backend(), pool());
      EXPECT_LT(loss(weight, gptq(weight, factor, layout, backend(), pool()), x),
                0.5 * loss(weight, rtn(weight, layout, pool()), x))
          << bits << " bits, act order " << act_order;
    }
  }
}

TEST(Gptq, WithoutCorrelationItIsRoundToNearest) {
  std::vector<float> x(40 * 40);
  for (std::size_t i = 0; i < 40; ++i) x[i * 40 + i] = 1 + static_cast<float>(i % 3);
  const Weight weight = random_weight(5, 40, 5);
  const GroupLayout layout = {4, 16, false, DType::f16, false};
  const Weight expected = to_f32(rtn(weight, layout, pool()));
  for (const bool act_order : {false, true}) {
    const GptqFactor factor(hessian_of(x, 40), {0.01, act_order}, backend(), pool());
    const Weight decoded = to_f32(gptq(weight, factor, layout, backend(), pool()));
    for (std::int64_t i = 0; i < expected.data.size(); ++i)
      ASSERT_EQ(decoded.data.as<float>()[i], expected.data.as<float>()[i]);
  }
}

TEST(Gptq, DampingGrowsUntilASingularHessianHasAFactor) {
  std::vector<float> x;  // 3 directions in 64 dimensions
  const std::vector<float> basis = correlated(3, 64, 6);
  for (int t = 0; t < 50; ++t) {
    for (std::size_t c = 0; c < 64; ++c)
      x.push_back(basis[c] + static_cast<float>(t % 7) * basis[64 + c] - static_cast<float>(t % 4) * basis[128 + c]);
  }
  const GptqFactor factor(hessian_of(x, 64), {1e-12, true}, backend(), pool());
  EXPECT_GT(factor.damping(), 5e-12);
  EXPECT_LT(factor.damping(), 1e-2);
  const Weight weight = random_weight(8, 64, 7);
  const GroupLayout layout = {4, 32, false, DType::f16, false};
  const double after = loss(weight, gptq(weight, factor, layout, backend(), pool()), x);
  EXPECT_LT(after, loss(weight, rtn(weight, layout, pool()), x));
}

TEST(Gptq, DeadColumnsAreCountedAndRoundedToNearest) {
  std::vector<float> x = correlated(100, 32, 8);
  for (std::size_t t = 0; t < 100; ++t) x[t * 32 + 5] = x[t * 32 + 20] = 0;
  const Weight weight = random_weight(4, 32, 9);
  const GroupLayout layout = {4, 32, false, DType::f16, false};
  const GptqFactor factor(hessian_of(x, 32), {}, backend(), pool());
  EXPECT_EQ(factor.dead(), 2);
  const Weight result = gptq(weight, factor, layout, backend(), pool()), nearest = rtn(weight, layout, pool());
  for (std::int64_t r = 0; r < 4; ++r) {
    EXPECT_EQ(result.code(r, 5), nearest.code(r, 5));
    EXPECT_EQ(result.code(r, 20), nearest.code(r, 20));
  }
  const GptqFactor all_dead(Hessian(32), {}, backend(), pool());
  EXPECT_EQ(all_dead.dead(), 32);
  EXPECT_EQ(gptq(weight, all_dead, layout, backend(), pool()).code(3, 7), nearest.code(3, 7));
}

TEST(Gptq, HessiansAddUpOverSlicesOfTokens) {
  const std::vector<float> x = correlated(1100, 200, 10);
  const Matrix expected = gram(x, 200);
  const Hessian hessian = hessian_of(x, 200);
  for (std::int64_t i = 0; i < 200; ++i) {
    for (std::int64_t j = 0; j <= i; ++j) {
      const double value = expected[static_cast<std::size_t>(i)][static_cast<std::size_t>(j)];
      ASSERT_NEAR(hessian.row(i)[j], value, 1e-4 * std::fabs(value) + 0.1);
    }
  }
}

TEST(Gptq, RefusesInputsThatAreNotFinite) {
  std::vector<float> x(64, 1.0F);
  x[9] = std::numeric_limits<float>::infinity();
  EXPECT_ERROR(ErrorCode::invalid_checkpoint, "not finite", GptqFactor(hessian_of(x, 8), {}, backend(), pool()));
}

}  // namespace
}  // namespace bittern::quant
