// Tensor: a trivially copyable view of memory that somebody else owns (a checkpoint, the KV pool, the step arena).
// Up to three dimensions with strides in elements; the last dimension is always contiguous, so that a slice of a
// wider row (q inside a fused qkv) is a Tensor too. It does not own, allocate, convert or know its device.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "tensor/dtype.h"

namespace bittern {

struct Tensor {
  static constexpr int kMaxRank = 3;

  void* data = nullptr;
  DType dtype = DType::f32;
  int rank = 0;
  std::array<std::int64_t, kMaxRank> shape{};   // outermost first
  std::array<std::int64_t, kMaxRank> stride{};  // in elements; stride[rank-1] == 1

  static Tensor of(void* data, DType dtype, std::int64_t n);
  static Tensor of(void* data, DType dtype, std::int64_t rows, std::int64_t cols);
  static Tensor of(void* data, DType dtype, std::int64_t a, std::int64_t b, std::int64_t c);

  /// Elements, counting the shape alone (not the gaps of strides).
  std::int64_t size() const;
  bool contiguous() const;
  std::int64_t rows() const { return shape[0]; }
  /// Length of the last dimension.
  std::int64_t cols() const { return rank == 0 ? 0 : shape[rank - 1]; }

  /// (rows, [begin, begin+count) of the columns) of a rank-2 tensor, sharing memory.
  Tensor columns(std::int64_t begin, std::int64_t count) const;
  /// Rows [begin, begin+count) of the first dimension, sharing memory.
  Tensor slice(std::int64_t begin, std::int64_t count) const;
  /// A rank-2 (rows, heads*dim) tensor seen as (rows, heads, dim).
  Tensor heads(std::int64_t heads, std::int64_t dim) const;

  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
  /// First element of row `i` of the first dimension.
  template <class T>
  T* row(std::int64_t i) const {
    return as<T>() + i * stride[0];
  }

  /// "f32[12, 64]" for messages.
  std::string describe() const;
};

}  // namespace bittern
