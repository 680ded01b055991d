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
  /// grouped_int4: u8 (out, ceil(in/2)), input 2j in the low nibble and 2j+1 in the high nibble of byte j.
  Tensor data;
  /// grouped_int4 only: f32 (out, groups) with groups = ceil(in / group_size).
  Tensor scales;
  /// grouped_int4 only: u8 (out, groups), values 0..15; w = (q - zero) * scale.
  Tensor zeros;
  /// Owners of the memory the tensors point into.
  std::vector<std::shared_ptr<const void>> keep;

  std::int64_t groups() const {
    return format.kind == FormatKind::dense ? 0 : (in + format.group_size - 1) / format.group_size;
  }
  /// Bytes of data, scales and zeros as held in memory here.
  std::int64_t bytes() const;

  /// Owned, zeroed weight of the given format and shape.
  static Weight allocate(std::string name, Format format, std::int64_t out, std::int64_t in);
};

/// The weight as owned f32 (out, in): the reference decoding that every packed form must reproduce.
Weight to_f32(const Weight& weight);
/// The same weight with its rows taken in the given order (order.size() == out): used for fused layouts.
Weight reorder_rows(const Weight& weight, const std::vector<std::int64_t>& order);
/// Weights stacked along the output dimension; all must share `in` and format. Throws Error(internal) otherwise.
Weight concatenate_rows(const std::vector<Weight>& weights);

}  // namespace bittern
