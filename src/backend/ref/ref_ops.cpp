// Operations of the reference backend that look at one row at a time.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

#include "backend/ref/ref_backend.h"
#include "backend/ref/ref_weight.h"
#include "base/check.h"

namespace bittern {
namespace {

const float* floats(const DeviceBuffer& buffer) { return static_cast<const float*>(buffer.data()); }

std::int64_t row_count(const Tensor& t) { return t.rank == 3 ? t.shape[0] * t.shape[1] : t.shape[0]; }

// Row `i` of a rank-2 tensor, or of a rank-3 one with its first two dimensions counted together.
float* row_of(const Tensor& t, std::int64_t i) {
  if (t.rank == 2) return t.row<float>(i);
  return t.row<float>(i / t.shape[1]) + (i % t.shape[1]) * t.stride[1];
}

void check_f32(const Tensor& t) {
  BITTERN_CHECK(t.dtype == DType::f32 && (t.rank == 2 || t.rank == 3), "found {}", t.describe());
}

void check_same(const Tensor& a, const Tensor& b) {
  check_f32(a);
  check_f32(b);
  BITTERN_CHECK(a.rank == b.rank && a.shape == b.shape, "{} and {}", a.describe(), b.describe());
}

template <class T>
double dot(const T* a, const float* b, std::int64_t n) {
  double sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

// A row of activations as 8 bits hold it: q * scale, exact in double.
std::vector<double> rounded(const float* x, std::int64_t n) {
  float largest = 0;
  bool finite = true;
  for (std::int64_t i = 0; i < n; ++i) {
    largest = std::max(largest, std::abs(x[i]));
    finite = finite && std::isfinite(x[i]);
  }
  if (!finite) return std::vector<double>(static_cast<std::size_t>(n), std::numeric_limits<double>::quiet_NaN());
  std::vector<double> result(static_cast<std::size_t>(n), 0.0);
  if (!(largest > kSmallestRoundedActivation)) return result;
  const float scale = largest / 127.0f, inverse = 127.0f / largest;
  for (std::int64_t i = 0; i < n; ++i) {
    result[static_cast<std::size_t>(i)] = static_cast<double>(std::nearbyint(x[i] * inverse)) * scale;
  }
  return result;
}

double activate(double x, Activation activation) {
  switch (activation) {
    case Activation::silu: return x / (1.0 + std::exp(-x));
    case Activation::gelu_tanh:
      return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
    case Activation::gelu_erf: return 0.5 * x * (1.0 + std::erf(x / std::numbers::sqrt2));
  }
  BITTERN_CHECK(false, "Activation {}", static_cast<int>(activation));
}

// x = f(x) for every element.
template <class F>
void update(const Tensor& x, F f) {
  check_f32(x);
  for (std::int64_t r = 0; r < row_count(x); ++r) {
    float* row = row_of(x, r);
    for (std::int64_t i = 0; i < x.cols(); ++i) row[i] = static_cast<float>(f(static_cast<double>(row[i])));
  }
}

}  // namespace

void RefBackend::embed(Tensor out, const PackedWeight& table, std::span<const std::int32_t> ids, float scale) {
  const RefWeight& rows = dynamic_cast<const RefWeight&>(table);
  check_f32(out);
  BITTERN_CHECK(out.rows() == static_cast<std::int64_t>(ids.size()) && out.cols() == table.in());
  for (std::int64_t t = 0; t < out.rows(); ++t) {
    const std::int32_t id = ids[static_cast<std::size_t>(t)];
    BITTERN_CHECK(id >= 0 && id < table.out(), "token id {} of {}", id, table.out());
    for (std::int64_t i = 0; i < out.cols(); ++i) out.row<float>(t)[i] = rows.row(id)[i] * scale;
  }
}

void RefBackend::linear(Tensor out, Tensor x, const PackedWeight& w, const DeviceBuffer* bias) {
  const RefWeight& rows = dynamic_cast<const RefWeight&>(w);
  check_f32(out);
  check_f32(x);
  BITTERN_CHECK(x.cols() == w.in() && out.cols() == w.out() && x.rows() == out.rows(), "{} to {}", x.describe(),
                out.describe());
  const bool round = round_activations_ && w.format().int8_activations;
  for (std::int64_t t = 0; t < x.rows(); ++t) {
    const std::vector<double> codes = round ? rounded(x.row<float>(t), w.in()) : std::vector<double>{};
    for (std::int64_t o = 0; o < w.out(); ++o) {
      const double sum = round ? dot(codes.data(), rows.row(o), w.in()) : dot(x.row<float>(t), rows.row(o), w.in());
      out.row<float>(t)[o] = static_cast<float>(sum + (bias ? floats(*bias)[o] : 0.0f));
    }
  }
}

void RefBackend::rms_norm(Tensor out, Tensor x, const DeviceBuffer& weight, float eps) {
  check_same(out, x);
  BITTERN_CHECK(weight.bytes() == x.cols() * static_cast<std::int64_t>(sizeof(float)));
  for (std::int64_t r = 0; r < row_count(x); ++r) {
    const float* from = row_of(x, r);
    float* to = row_of(out, r);
    const double mean_square = dot(from, from, x.cols()) / static_cast<double>(x.cols());
    const double factor = 1.0 / std::sqrt(mean_square + eps);
    for (std::int64_t i = 0; i < x.cols(); ++i) to[i] = static_cast<float>(from[i] * factor * floats(weight)[i]);
  }
}

void RefBackend::add(Tensor x, Tensor y) {
  check_same(x, y);
  for (std::int64_t r = 0; r < row_count(x); ++r) {
    for (std::int64_t i = 0; i < x.cols(); ++i) row_of(x, r)[i] += row_of(y, r)[i];
  }
}

void RefBackend::gated_activation(Tensor out, Tensor gate, Tensor up, Activation activation) {
  check_same(out, gate);
  check_same(out, up);
  for (std::int64_t r = 0; r < row_count(out); ++r) {
    for (std::int64_t i = 0; i < out.cols(); ++i) {
      row_of(out, r)[i] = static_cast<float>(activate(row_of(gate, r)[i], activation) * row_of(up, r)[i]);
    }
  }
}

void RefBackend::softcap(Tensor x, float cap) {
  update(x, [cap](double value) { return cap * std::tanh(value / cap); });
}

void RefBackend::scale(Tensor x, float factor) {
  update(x, [factor](double value) { return value * factor; });
}

void RefBackend::gather_rows(Tensor out, Tensor x, std::span<const std::int32_t> rows) {
  check_f32(out);
  check_f32(x);
  BITTERN_CHECK(out.rows() == static_cast<std::int64_t>(rows.size()) && out.cols() == x.cols());
  for (std::int64_t r = 0; r < out.rows(); ++r) {
    const std::int32_t from = rows[static_cast<std::size_t>(r)];
    BITTERN_CHECK(from >= 0 && from < x.rows(), "row {} of {}", from, x.rows());
    for (std::int64_t i = 0; i < x.cols(); ++i) out.row<float>(r)[i] = x.row<float>(from)[i];
  }
}

}  // namespace bittern
