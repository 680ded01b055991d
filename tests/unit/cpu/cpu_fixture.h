// Shared by the tests of the CPU backend: backends at every instruction set of this machine, random weights and
// tensors, and comparison with the reference backend by norms.
#pragma once

#include <gtest/gtest.h>

#include <bittern/error.h>

#include <cmath>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "tensor/convert.h"

namespace bittern {

/// The levels this machine can run, lowest first.
inline std::vector<std::string> isa_levels() {
  std::vector<std::string> levels;
  for (const char* name : {"generic", "avx2", "avx512", "avx512vnni", "avx512bf16"}) {
    BackendOptions options;
    options.isa = name;
    options.threads = 1;
    try {
      make_backend("cpu", options);
      levels.emplace_back(name);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::unsupported) throw;
    }
  }
  return levels;
}

inline std::unique_ptr<Backend> cpu_backend(const std::string& isa, int threads = 2, bool deterministic = true,
                                            const std::string& pin = "") {
  BackendOptions options;
  options.isa = isa;
  options.threads = threads;
  options.deterministic = deterministic;
  options.kernel_pin = pin;
  return make_backend("cpu", options);
}

/// Floats with a view; strides are the row length plus `gap`.
struct Matrix {
  std::int64_t rows, cols, stride;
  std::vector<float> data;
  Matrix(std::int64_t r, std::int64_t c, std::int64_t gap = 0)
      : rows(r), cols(c), stride(c + gap), data(static_cast<std::size_t>(r * (c + gap)), 0.0f) {}
  Tensor view() {
    Tensor t = Tensor::of(data.data(), DType::f32, rows, cols);
    t.stride[0] = stride;
    return t;
  }
  float at(std::int64_t r, std::int64_t c) const { return data[static_cast<std::size_t>(r * stride + c)]; }
};

inline void fill_random(std::vector<float>& values, unsigned seed, float deviation = 1.0f) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, deviation);
  for (float& v : values) v = normal(random);
}

inline Weight random_dense(DType dtype, std::int64_t out, std::int64_t in, unsigned seed) {
  Weight weight = Weight::allocate("test", Format::dense(dtype), out, in);
  std::vector<float> values(static_cast<std::size_t>(out * in));
  fill_random(values, seed, 0.05f);
  convert_from_f32(values.data(), dtype, out * in, weight.data.data);
  return weight;
}

/// `f16_scales`: scales that binary16 holds exactly, as checkpoints on disk have them.
inline Weight random_int4(std::int64_t group, bool f16_scales, std::int64_t out, std::int64_t in, unsigned seed) {
  Weight weight = Weight::allocate("test", Format::int4(group), out, in);
  std::mt19937 random(seed);
  for (std::int64_t i = 0; i < weight.data.size(); ++i)
    weight.data.as<std::uint8_t>()[i] = static_cast<std::uint8_t>(random());
  for (std::int64_t i = 0; i < weight.scales.size(); ++i) {
    const float scale = 0.002f + static_cast<float>(random() % 1000) * 1e-5f;
    weight.scales.as<float>()[i] = f16_scales ? std::ldexp(std::round(std::ldexp(scale, 16)), -16) : scale;
    weight.zeros.as<std::uint8_t>()[i] = static_cast<std::uint8_t>(random() % 16);
  }
  return weight;
}

/// |a - b| <= tolerance * |a|, in the 2-norm over everything.
inline double relative_error(const Matrix& reference, const Matrix& other) {
  double difference = 0, size = 0;
  for (std::int64_t r = 0; r < reference.rows; ++r) {
    for (std::int64_t c = 0; c < reference.cols; ++c) {
      const double d = static_cast<double>(reference.at(r, c)) - other.at(r, c);
      difference += d * d;
      size += static_cast<double>(reference.at(r, c)) * reference.at(r, c);
    }
  }
  return std::sqrt(difference / (size > 0 ? size : 1));
}

inline bool same_bits(const Matrix& a, std::int64_t row_a, const Matrix& b, std::int64_t row_b) {
  for (std::int64_t c = 0; c < a.cols; ++c) {
    if (a.at(row_a, c) != b.at(row_b, c)) return false;
  }
  return true;
}

}  // namespace bittern
