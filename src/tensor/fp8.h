// Weights in 8-bit floats (e4m3) with scales per tensor, per output or per block, as the canonical Weight. The codes
// are used where they lie; only the scales are converted. It reads no files and writes nothing.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tensor/weight.h"

namespace bittern {

/// Which part of a (out, in) weight shares one stored scale.
struct ScaleTiles {
  std::int64_t rows = 1;  // 0: all
  std::int64_t cols = 0;  // 0: all

  std::int64_t stored_rows(std::int64_t out) const { return rows == 0 ? 1 : (out + rows - 1) / rows; }
  std::int64_t stored_cols(std::int64_t in) const { return cols == 0 ? 1 : (in + cols - 1) / cols; }
  std::int64_t group_size(std::int64_t in) const { return cols == 0 ? in : cols; }
};

/// `codes` is f8_e4m3 (out, in), `scales` a float type of (stored_rows, stored_cols); `keep` owns both.
/// w = code * scale. Error(invalid_checkpoint) naming the tensor when types or shapes disagree, or a code is not a
/// number. `scale_name` is the whole key of the scales.
Weight unpack_fp8(const std::string& name, const Tensor& codes, const std::string& scale_name, const Tensor& scales,
                  ScaleTiles tiles, std::vector<std::shared_ptr<const void>> keep);

}  // namespace bittern
