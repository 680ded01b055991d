// Weight: one parameter in canonical form, as a checkpoint reader hands it out and a backend's prepare() takes it.
// It is a value that keeps its memory alive (a mapped file or a converted buffer); it holds no packed data.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tensor/format.h"
#include "tensor/tensor.h"

namespace bittern {

struct Weight {
  std::string name;  // key in the checkpoint, for messages ("model.layers.0.mlp.up_proj")
  Format format;
  std::int64_t out = 0;  // rows; for a vector (norm, bias) the length, with in == 1
  std::int64_t in = 0;

  /// dense: (out, in) of format.dtype.
  /// grouped, up to 4 bits: u8 (out, ceil(in/2)), input 2j in the low nibble and 2j+1 in the high nibble of byte j.
  /// grouped, more bits: u8 (out, in), one code a byte.
  Tensor data;
  /// grouped only: f32 (out, groups) with groups = ceil(in / group_size).
  Tensor scales;
  /// Integer codes have exactly one of the next two, other codes have neither:
  /// w = (q - zero) * scale with u8 zeros (out, groups) below 2^bits, or
  /// w = q * scale + offset with f32 offsets (out, groups), for formats that store a real minimum.
  Tensor zeros;
  Tensor offsets;
  /// grouped, may be empty: i32 (in). The code in column j multiplies input input_order[j]; groups are runs of columns.
  /// Made for checkpoints whose groups are not runs of inputs (GPTQ with act-order).
  Tensor input_order;
  /// Owners of the memory the tensors point into.
  std::vector<std::shared_ptr<const void>> keep;

  std::int64_t groups() const {
    return format.kind == FormatKind::dense ? 0 : (in + format.group_size - 1) / format.group_size;
  }
  /// Bytes of all tensors above as held in memory here.
  std::int64_t bytes() const;

  enum class Shift : std::uint8_t { zeros, offsets };
  /// Owned, zeroed weight of the given format and shape; `shift` says which of the two integer codes get.
  static Weight allocate(std::string name, Format format, std::int64_t out, std::int64_t in,
                         Shift shift = Shift::zeros);
  /// Gives the weight an input_order of its own, to be filled.
  std::int32_t* allocate_input_order();

  /// Code of (row, column) of a grouped weight. For tests and loading; kernels read packed data.
  std::uint8_t code(std::int64_t row, std::int64_t column) const;
  void set_code(std::int64_t row, std::int64_t column, std::uint8_t q);
};

/// The weight as owned f32 (out, in): the reference decoding that every packed form must reproduce.
Weight to_f32(const Weight& weight);
/// The same weight with its rows taken in the given order (order.size() == out): used for fused layouts.
Weight reorder_rows(const Weight& weight, const std::vector<std::int64_t>& order);
/// Weights stacked along the output dimension; all must share `in`, format, kind of shift and input order. Throws
/// Error(internal) otherwise.
Weight concatenate_rows(const std::vector<Weight>& weights);

}  // namespace bittern
