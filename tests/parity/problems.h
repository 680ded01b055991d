// Inputs for the table of cases: seeded random numbers, weights in any format, strided matrices whose gaps hold NaN (a
// kernel that reads or writes them is found out), and paged sequences with scattered blocks.
#pragma once

#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "backend/backend.h"
#include "base/half.h"
#include "parity/cases.h"
#include "tensor/convert.h"

namespace bittern::parity {

/// Normal numbers from a fixed seed; the same on every machine.
class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  float normal() {  // sum of uniforms: std::normal_distribution differs between libraries
    float sum = -6;
    for (int i = 0; i < 12; ++i) sum += uniform();
    return sum;
  }
  float uniform() { return static_cast<float>(engine_() >> 40) * 0x1p-24f; }
  int below(int n) { return static_cast<int>(engine_() % static_cast<std::uint64_t>(n)); }

 private:
  std::mt19937_64 engine_;
};

/// A (rows, cols) matrix; strided ones have gaps of NaN before, between and after their rows.
class Matrix {
 public:
  Matrix(std::int64_t rows, std::int64_t cols, bool strided)
      : cols_(cols),
        stride_(strided ? cols + 5 : cols),
        offset_(strided ? 3 : 0),
        values_(static_cast<std::size_t>(rows * stride_), strided ? std::numeric_limits<float>::quiet_NaN() : 0.0f),
        rows_(rows) {}

  static Matrix random(std::int64_t rows, std::int64_t cols, bool strided, Random& random) {
    Matrix m(rows, cols, strided);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < cols; ++c) m.at(r, c) = random.normal();
    }
    return m;
  }

  Tensor tensor() { return Tensor::of(values_.data(), DType::f32, rows_, stride_).columns(offset_, cols_); }
  float& at(std::int64_t r, std::int64_t c) { return values_[static_cast<std::size_t>(r * stride_ + offset_ + c)]; }
  float at(std::int64_t r, std::int64_t c) const {
    return values_[static_cast<std::size_t>(r * stride_ + offset_ + c)];
  }
  std::int64_t rows() const { return rows_; }
  std::int64_t cols() const { return cols_; }

  /// True while nothing was written between the rows.
  bool gaps_untouched() const {
    for (std::size_t i = 0; i < values_.size(); ++i) {
      const std::int64_t column = static_cast<std::int64_t>(i) % stride_ - offset_;
      if ((column < 0 || column >= cols_) && !std::isnan(values_[i])) return false;
    }
    return true;
  }
  double norm(std::int64_t r) const {
    double sum = 0;
    for (std::int64_t c = 0; c < cols_; ++c) sum += static_cast<double>(at(r, c)) * at(r, c);
    return std::sqrt(sum);
  }

 private:
  std::int64_t cols_, stride_, offset_;
  std::vector<float> values_;
  std::int64_t rows_;
};

inline Weight random_vector(std::int64_t n, Random& random, float mean = 0) {
  Weight w = Weight::allocate("vector", Format::dense(DType::f32), n, 1);
  for (std::int64_t i = 0; i < n; ++i) w.data.as<float>()[i] = mean + random.normal();
  return w;
}

inline Weight random_dense(DType dtype, std::int64_t out, std::int64_t in, Random& random) {
  Weight w = Weight::allocate("weight", Format::dense(dtype), out, in);
  std::vector<float> row(static_cast<std::size_t>(in));
  for (std::int64_t n = 0; n < out; ++n) {
    for (float& value : row) value = random.normal();
    convert_from_f32(row.data(), dtype, in,
                     w.data.as<std::byte>() + n * in * static_cast<std::int64_t>(dtype_size(dtype)));
  }
  return w;
}

/// Any code but the two NaN codes of e4m3.
inline std::uint8_t random_code(const Format& format, Random& random) {
  const auto q = static_cast<std::uint8_t>(random.below(1 << format.bits));
  return format.codes == Codes::e4m3 && (q & 0x7f) == 0x7f ? std::uint8_t{0x7e} : q;
}

inline void shuffle_inputs(Weight& w, Random& random) {
  std::int32_t* order = w.allocate_input_order();
  std::iota(order, order + w.in, 0);
  for (std::int64_t i = w.in - 1; i > 0; --i) std::swap(order[i], order[random.below(static_cast<int>(i + 1))]);
}

inline Weight random_grouped(const WeightCase& kind, std::int64_t out, std::int64_t in, Random& random) {
  Format format = kind.format;
  if (format.group_size < 0) format.group_size = in;
  Weight w = Weight::allocate("weight", format, out, in, kind.shift);
  for (std::int64_t n = 0; n < out; ++n) {
    for (std::int64_t i = 0; i < in; ++i) w.set_code(n, i, random_code(format, random));
    for (std::int64_t g = 0; g < w.groups(); ++g) {
      const float scale = 0.01f + 0.2f * random.uniform();
      w.scales.row<float>(n)[g] = kind.f16_scales ? to_f32(to_f16(scale)) : scale;
      if (w.zeros.rank) w.zeros.row<std::uint8_t>(n)[g] = static_cast<std::uint8_t>(random.below(1 << format.bits));
      if (w.offsets.rank) w.offsets.row<float>(n)[g] = random.normal();
    }
  }
  if (kind.reordered) shuffle_inputs(w, random);
  return w;
}

inline Weight random_weight(const WeightCase& kind, std::int64_t out, std::int64_t in, Random& random) {
  if (kind.format.kind == FormatKind::dense) return random_dense(kind.format.dtype, out, in, random);
  return random_grouped(kind, out, in, random);
}

/// The arrays of one step over paged sequences. Blocks of the sequences are interleaved and in descending order, so
/// that neither the order of blocks nor neighbouring sequences can be mistaken for each other.
class Step {
 public:
  /// Tokens [begin[s], end[s]) of every sequence s.
  Step(int block_tokens, const std::vector<int>& begin, const std::vector<int>& end, int total_sequences,
       int max_tokens) {
    sequences_ = static_cast<int>(begin.size());
    max_blocks_ = (max_tokens + block_tokens - 1) / block_tokens;
    q_start_.push_back(0);
    for (std::size_t s = 0; s < begin.size(); ++s) {
      for (int p = begin[s]; p < end[s]; ++p) positions_.push_back(p);
      q_start_.push_back(static_cast<std::int32_t>(positions_.size()));
      context_.push_back(end[s]);
    }
    for (int s = 0; s < sequences_; ++s) append_table(s, total_sequences);
  }

  /// The same step for one of the sequences alone, with its own blocks.
  static Step alone(int block_tokens, int sequence, int begin, int end, int total_sequences, int max_tokens) {
    Step step(block_tokens, {begin}, {end}, total_sequences, max_tokens);
    step.tables_.clear();
    step.append_table(sequence, total_sequences);
    return step;
  }

  BatchView view() const {
    BatchView batch;
    batch.tokens = static_cast<int>(positions_.size());
    batch.sequences = sequences_;
    batch.positions = positions_;
    batch.q_start = q_start_;
    batch.context = context_;
    batch.rope_length = context_;
    batch.block_tables = tables_;
    batch.max_blocks = max_blocks_;
    return batch;
  }
  std::span<const std::int32_t> table(int s) const {
    return std::span(tables_).subspan(static_cast<std::size_t>(s * max_blocks_), static_cast<std::size_t>(max_blocks_));
  }
  static std::int64_t pool_blocks(int block_tokens, int total_sequences, int max_tokens) {
    return std::int64_t{total_sequences} * ((max_tokens + block_tokens - 1) / block_tokens);
  }

 private:
  void append_table(int sequence, int total_sequences) {
    for (int b = 0; b < max_blocks_; ++b) tables_.push_back((max_blocks_ - 1 - b) * total_sequences + sequence);
  }

  int sequences_, max_blocks_;
  std::vector<std::int32_t> positions_, q_start_, context_, tables_;
};

}  // namespace bittern::parity
