// Decodes a few rows at a time, so that measuring never needs a second copy of the linear in f32.
#include "quant/weight_error.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/check.h"

namespace bittern::quant {
namespace {

Tensor rows_of(const Tensor& tensor, std::int64_t begin, std::int64_t count) {
  return tensor.rank == 0 ? tensor : tensor.slice(begin, count);
}

/// Rows [begin, begin + count) of a weight, sharing its memory.
Weight row_view(const Weight& weight, std::int64_t begin, std::int64_t count) {
  Weight view = weight;
  view.out = count;
  view.data = rows_of(weight.data, begin, count);
  view.scales = rows_of(weight.scales, begin, count);
  view.zeros = rows_of(weight.zeros, begin, count);
  view.offsets = rows_of(weight.offsets, begin, count);
  return view;
}

WeightError row_error(const Weight& original, const Weight& quantized, std::int64_t row) {
  const Weight decoded = to_f32(row_view(quantized, row, 1));
  const float* w = original.data.row<float>(row);
  const float* v = decoded.data.row<float>(0);
  WeightError error;
  for (std::int64_t i = 0; i < original.in; ++i) {
    const double a = w[i], b = v[i], d = a - b;
    error.difference += d * d;
    error.energy += a * a;
    error.decoded += b * b;
    error.product += a * b;
    error.max_abs = std::max(error.max_abs, std::abs(d));
  }
  return error;
}

}  // namespace

WeightError& WeightError::operator+=(const WeightError& other) {
  difference += other.difference;
  energy += other.energy;
  decoded += other.decoded;
  product += other.product;
  max_abs = std::max(max_abs, other.max_abs);
  return *this;
}

double WeightError::nmse() const { return difference == 0 ? 0.0 : difference / energy; }

double WeightError::cosine() const {
  if (energy == 0 && decoded == 0) return 1.0;
  if (energy == 0 || decoded == 0) return 0.0;
  return product / std::sqrt(energy * decoded);
}

WeightError weight_error(const Weight& original, const Weight& quantized, ThreadPool& pool) {
  BITTERN_CHECK(original.format == Format::dense(DType::f32));
  BITTERN_CHECK(original.out == quantized.out && original.in == quantized.in);
  std::vector<WeightError> rows(static_cast<std::size_t>(original.out));
  pool.parallel_ranges(original.out, 1, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t row = begin; row < end; ++row)
      rows[static_cast<std::size_t>(row)] = row_error(original, quantized, row);
  });
  WeightError total;
  for (const WeightError& row : rows) total += row;  // in order, whichever thread made each
  return total;
}

Json to_json(const WeightError& error) {
  return {{"difference", error.difference},
          {"energy", error.energy},
          {"decoded", error.decoded},
          {"product", error.product},
          {"max_abs", error.max_abs}};
}

WeightError weight_error_from_json(const Json& json) {
  return {json.at("difference"), json.at("energy"), json.at("decoded"), json.at("product"), json.at("max_abs")};
}

}  // namespace bittern::quant
