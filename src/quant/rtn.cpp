// Round to nearest, one row at a time: codes go to a row of bytes first and are packed in pairs afterwards, so that a
// group of odd size may end in the middle of a byte.
#include "quant/rtn.h"

#include <bittern/error.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <vector>

#include "base/check.h"
#include "tensor/convert.h"

namespace bittern::quant {
namespace {

constexpr float kLevels = 15.0f;
constexpr float kLeastRange = 1e-5f;

struct Range {
  float lo = 0, hi = 0;
  bool finite = true;
};

Range range_of(std::span<const float> group) {
  Range range;
  float poison = 0;  // turns NaN with the first weight that is not finite
  for (const float w : group) {
    range.lo = std::min(range.lo, w);
    range.hi = std::max(range.hi, w);
    poison += w * 0.0f;
  }
  range.finite = poison == 0.0f && std::isfinite(range.hi - range.lo);
  return range;
}

float rounded_to(DType dtype, float value) {
  if (dtype == DType::f32) return value;
  std::uint16_t bits = 0;
  float result = 0;
  convert_from_f32(&value, dtype, 1, &bits);
  convert_to_f32(&bits, dtype, 1, &result);
  return result;
}

/// Nearest integer, ties to even. Adding 1.5 * 2^23 leaves no bits for a fraction; callers stay far below 2^22, and
/// the baseline instruction set has no rounding instruction that the compiler could use for nearbyint.
float round_even(float x) {
  constexpr float kMagic = 12582912.0f;
  return (x + kMagic) - kMagic;
}

struct GroupParameters {
  float scale, zero;
};

GroupParameters parameters_of(const Range& range, DType scale_dtype) {
  const float scale = rounded_to(scale_dtype, std::max(range.hi - range.lo, kLeastRange) / kLevels);
  return {scale, std::clamp(round_even(-range.lo / scale), 0.0f, kLevels)};
}

void encode(std::span<const float> group, GroupParameters p, std::uint8_t* codes) {
  for (std::size_t i = 0; i < group.size(); ++i) {
    codes[i] = static_cast<std::uint8_t>(std::clamp(round_even(group[i] / p.scale) + p.zero, 0.0f, kLevels));
  }
}

void pack_row(std::span<const std::uint8_t> codes, std::uint8_t* row) {
  for (std::size_t i = 0; i + 1 < codes.size(); i += 2)
    row[i / 2] = static_cast<std::uint8_t>(codes[i] | codes[i + 1] << 4);
  if (codes.size() % 2 == 1) row[codes.size() / 2] = codes.back();
}

[[noreturn]] void refuse(const Weight& weight, std::int64_t row, std::int64_t group, const Range& range) {
  const std::string where = weight.name + ": output " + std::to_string(row) + ", group " + std::to_string(group);
  if (!range.finite) {
    throw Error(ErrorCode::invalid_checkpoint, where + " has weights that are not finite or span more than f32 holds",
                "the checkpoint is damaged; or leave this linear out with --skip " + weight.name);
  }
  throw Error(
      ErrorCode::invalid_checkpoint,
      where + " spans " + std::to_string(range.lo) + " to " + std::to_string(range.hi) + ", its scale overflows f16",
      "leave this linear out with --skip " + weight.name);
}

void quantize_row(const Weight& weight, const Weight& result, std::int64_t row, DType scale_dtype,
                  std::span<std::uint8_t> codes) {
  const std::span<const float> w(weight.data.row<float>(row), static_cast<std::size_t>(weight.in));
  const auto size = static_cast<std::size_t>(result.format.group_size);
  for (std::int64_t g = 0; g < result.groups(); ++g) {
    const std::size_t begin = static_cast<std::size_t>(g) * size;
    const auto group = w.subspan(begin, std::min(size, w.size() - begin));
    const Range range = range_of(group);
    const GroupParameters p = parameters_of(range, scale_dtype);
    if (!range.finite || !std::isfinite(p.scale)) refuse(weight, row, g, range);
    encode(group, p, codes.data() + begin);
    result.scales.row<float>(row)[g] = p.scale;
    result.zeros.row<std::uint8_t>(row)[g] = static_cast<std::uint8_t>(p.zero);
  }
  pack_row(codes, result.data.row<std::uint8_t>(row));
}

}  // namespace

Weight rtn_int4(const Weight& weight, std::int64_t group_size, DType scale_dtype, ThreadPool& pool) {
  BITTERN_CHECK(weight.format == Format::dense(DType::f32) && weight.in > 0);
  BITTERN_CHECK(group_size > 0 || group_size == -1);
  BITTERN_CHECK(scale_dtype == DType::f16 || scale_dtype == DType::f32);
  const std::int64_t size = group_size == -1 ? weight.in : group_size;
  Weight result = Weight::allocate(weight.name, Format::int4(size), weight.out, weight.in);
  pool.parallel_ranges(weight.out, 1, [&](std::int64_t begin, std::int64_t end, int) {
    std::vector<std::uint8_t> codes(static_cast<std::size_t>(weight.in));
    for (std::int64_t row = begin; row < end; ++row) quantize_row(weight, result, row, scale_dtype, codes);
  });
  return result;
}

}  // namespace bittern::quant
