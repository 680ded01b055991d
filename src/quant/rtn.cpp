// Round to nearest, one row at a time: codes go to a row of bytes first and are packed in pairs afterwards, so that a
// group of odd size may end in the middle of a byte.
#include "quant/rtn.h"

#include <bittern/error.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <span>
#include <string>
#include <vector>

#include "base/check.h"
#include "tensor/convert.h"

namespace bittern::quant {
namespace {

constexpr float kLeastRange = 1e-5f;

struct Range {
  float lo = 0, hi = 0;
  bool finite = true;
};

/// Four running ranges instead of one: the compiler then keeps them in vectors, and nothing waits for the weight
/// before. The result is the same for any number of lanes.
class RangeLanes {
 public:
  void add(const float* w) {
    for (std::size_t i = 0; i < kLanes; ++i) {
      lo_[i] = w[i] < lo_[i] ? w[i] : lo_[i];
      hi_[i] = hi_[i] < w[i] ? w[i] : hi_[i];
      poison_[i] += w[i] * 0.0f;
    }
  }
  void add_rest(std::span<const float> rest) {
    std::array<float, kLanes> padded{};  // zero is always in the range
    std::ranges::copy(rest, padded.begin());
    add(padded.data());
  }
  Range range() const {
    Range range{std::ranges::min(lo_), std::ranges::max(hi_)};
    float poison = 0;
    for (const float lane : poison_) poison += lane;
    range.finite = poison == 0.0f && std::isfinite(range.hi - range.lo);
    return range;
  }

  static constexpr std::size_t kLanes = 4;

 private:
  std::array<float, kLanes> lo_{}, hi_{};
  std::array<float, kLanes> poison_{};  // turns NaN with the first weight that is not finite
};

Range range_of(std::span<const float> group) {
  RangeLanes lanes;
  std::size_t i = 0;
  for (; i + RangeLanes::kLanes <= group.size(); i += RangeLanes::kLanes) lanes.add(group.data() + i);
  if (i < group.size()) lanes.add_rest(group.subspan(i));
  return lanes.range();
}

float rounded_to(DType dtype, float value) {
  if (dtype == DType::f32) return value;
  std::uint16_t bits = 0;
  float result = 0;
  convert_from_f32(&value, dtype, 1, &bits);
  convert_to_f32(&bits, dtype, 1, &result);
  return result;
}

GroupParameters parameters_of(Range range, const GroupLayout& layout, float shrink) {
  const float levels = static_cast<float>((1 << layout.bits) - 1);
  const float lo = range.lo * shrink, hi = range.hi * shrink;
  const float width = layout.symmetric ? 2 * std::max(-lo, hi) : hi - lo;
  const float scale = rounded_to(layout.scale_dtype, std::max(width, kLeastRange) / levels);
  const float zero =
      layout.symmetric ? static_cast<float>(1 << (layout.bits - 1)) : std::clamp(round_even(-lo / scale), 0.0f, levels);
  return {scale, zero, levels};
}

void encode(std::span<const float> group, const GroupParameters& p, std::uint8_t* codes) {
  for (std::size_t i = 0; i < group.size(); ++i) codes[i] = static_cast<std::uint8_t>(p.code_of(group[i]));
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
  throw Error(ErrorCode::invalid_checkpoint,
              where + " spans " + std::to_string(range.lo) + " to " + std::to_string(range.hi) +
                  ", its scale overflows the type it is stored in",
              "leave this linear out with --skip " + weight.name);
}

void quantize_row(const Weight& weight, const Weight& result, std::int64_t row, const GroupLayout& layout,
                  const Tensor* shrink, std::span<std::uint8_t> codes) {
  const std::span<const float> w(weight.data.row<float>(row), static_cast<std::size_t>(weight.in));
  const auto size = static_cast<std::size_t>(result.format.group_size);
  for (std::int64_t g = 0; g < result.groups(); ++g) {
    const std::size_t begin = static_cast<std::size_t>(g) * size;
    const auto group = w.subspan(begin, std::min(size, w.size() - begin));
    const GroupParameters p =
        group_parameters(weight, row, g, group, layout, shrink ? shrink->row<float>(row)[g] : 1.0F);
    encode(group, p, codes.data() + begin);
    result.scales.row<float>(row)[g] = p.scale;
    result.zeros.row<std::uint8_t>(row)[g] = static_cast<std::uint8_t>(p.zero);
  }
  std::uint8_t* to = result.data.row<std::uint8_t>(row);
  if (layout.bits > 4) {
    std::copy(codes.begin(), codes.end(), to);
  } else {
    pack_row(codes, to);
  }
}

}  // namespace

GroupParameters group_parameters(const Weight& weight, std::int64_t row, std::int64_t group,
                                 std::span<const float> values, const GroupLayout& layout, float shrink) {
  const Range range = range_of(values);
  const GroupParameters p = parameters_of(range, layout, shrink);
  if (!range.finite || !std::isfinite(p.scale)) refuse(weight, row, group, range);
  return p;
}

Weight allocate_codes(const Weight& weight, const GroupLayout& layout) {
  Format format = Format::grouped(layout.bits, layout.group_of(weight.in));
  format.int8_activations = layout.int8_activations;
  return Weight::allocate(weight.name, format, weight.out, weight.in);
}

Weight rtn(const Weight& weight, const GroupLayout& layout, ThreadPool& pool, const Tensor* shrink) {
  BITTERN_CHECK(weight.format == Format::dense(DType::f32) && weight.in > 0);
  BITTERN_CHECK(layout.group_size > 0 || layout.group_size == -1);
  BITTERN_CHECK(layout.bits >= 2 && layout.bits <= 8 && is_float(layout.scale_dtype));
  Weight result = allocate_codes(weight, layout);
  pool.parallel_ranges(weight.out, 1, [&](std::int64_t begin, std::int64_t end, int) {
    std::vector<std::uint8_t> codes(static_cast<std::size_t>(weight.in));
    for (std::int64_t row = begin; row < end; ++row) quantize_row(weight, result, row, layout, shrink, codes);
  });
  return result;
}

void rtn_round_row(const float* src, std::int64_t in, const GroupLayout& layout, float* dst, const float* shrink) {
  const std::int64_t size = layout.group_of(in);
  for (std::int64_t begin = 0, g = 0; begin < in; begin += size, ++g) {
    const std::int64_t end = std::min(in, begin + size);
    const Range range = range_of({src + begin, static_cast<std::size_t>(end - begin)});
    const GroupParameters p = parameters_of(range, layout, shrink ? shrink[g] : 1.0F);
    for (std::int64_t i = begin; i < end; ++i) dst[i] = p.decode(p.code_of(src[i]));
  }
}

}  // namespace bittern::quant
