// Checks and loops over the parts of grouped weights. Everything that comes from a file is checked before it is used
// as an index or a number.
#include "tensor/grouped_parts.h"

#include <bittern/error.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/buffer.h"
#include "base/check.h"
#include "tensor/convert.h"

namespace bittern {
namespace {

[[noreturn]] void refuse(const std::string& message) { throw Error(ErrorCode::invalid_checkpoint, message); }

std::vector<float> row_as_f32(const Tensor& tensor, std::int64_t row) {
  std::vector<float> values(static_cast<std::size_t>(tensor.cols()));
  convert_to_f32(tensor.slice(row, 1).data, tensor.dtype, tensor.cols(), values.data());
  return values;
}

void check_group_sizes(const std::string& part, const std::vector<std::int64_t>& counts, const Weight& weight) {
  for (std::int64_t g = 0; g < weight.groups(); ++g) {
    const std::int64_t expected = std::min(weight.format.group_size, weight.in - g * weight.format.group_size);
    const std::int64_t found = counts[static_cast<std::size_t>(g)];
    if (found == expected) continue;
    refuse(part + ": group " + std::to_string(g) + " has " + std::to_string(found) + " inputs, but " +
           std::to_string(weight.in) + " inputs in groups of " + std::to_string(weight.format.group_size) +
           " give it " + std::to_string(expected));
  }
}

}  // namespace

void check_part(const std::string& name, const Tensor& tensor, std::int64_t rows, std::int64_t cols, bool fits,
                const char* types) {
  if (fits && tensor.rank == 2 && tensor.rows() == rows && tensor.cols() == cols) return;
  refuse(name + ": found " + tensor.describe() + ", expected [" + std::to_string(rows) + ", " + std::to_string(cols) +
         "] of " + types);
}

float checked_scale(const std::string& part, float scale, std::int64_t row, std::int64_t group) {
  if (std::isfinite(scale)) return scale;
  refuse(part + ": the scale of output " + std::to_string(row) + ", group " + std::to_string(group) + " is not finite");
}

void fill_scales(const std::string& part, const Tensor& stored, bool transposed, Weight& weight) {
  for (std::int64_t i = 0; i < stored.rows(); ++i) {
    const std::vector<float> values = row_as_f32(stored, i);
    for (std::int64_t j = 0; j < stored.cols(); ++j) {
      const std::int64_t row = transposed ? j : i, group = transposed ? i : j;
      weight.scales.row<float>(row)[group] = checked_scale(part, values[static_cast<std::size_t>(j)], row, group);
    }
  }
}

void fill_tiled_scales(const std::string& part, const Tensor& stored, std::int64_t tile_rows, Weight& weight) {
  std::vector<float> values;
  for (std::int64_t row = 0; row < weight.out; ++row) {
    if (row == 0 || (tile_rows > 0 && row % tile_rows == 0)) {
      values = row_as_f32(stored, tile_rows > 0 ? row / tile_rows : 0);
    }
    for (std::int64_t g = 0; g < weight.groups(); ++g) {
      weight.scales.row<float>(row)[g] = checked_scale(part, values[static_cast<std::size_t>(g)], row, g);
    }
  }
}

void fill_zeros(Weight& weight, std::uint8_t zero) {
  std::fill_n(weight.zeros.as<std::uint8_t>(), weight.zeros.size(), zero);
}

void store_codes(Weight& weight, std::int64_t row, std::span<const std::uint8_t> codes) {
  const std::int32_t* order = weight.input_order.rank == 0 ? nullptr : weight.input_order.as<std::int32_t>();
  for (std::int64_t j = 0; j < weight.in; ++j) {
    weight.set_code(row, j, codes[static_cast<std::size_t>(order ? order[j] : j)]);
  }
}

void load_codes(const Weight& weight, std::int64_t row, std::span<std::uint8_t> codes) {
  const std::int32_t* order = weight.input_order.rank == 0 ? nullptr : weight.input_order.as<std::int32_t>();
  for (std::int64_t j = 0; j < weight.in; ++j) {
    codes[static_cast<std::size_t>(order ? order[j] : j)] = weight.code(row, j);
  }
}

void apply_group_index(const std::string& part, const Tensor& g_idx, Weight& weight) {
  check_part(part, g_idx, weight.in, 1, g_idx.dtype == DType::i32, "i32");
  const std::int32_t* group = g_idx.as<std::int32_t>();
  std::vector<std::int64_t> counts(static_cast<std::size_t>(weight.groups()));
  for (std::int64_t k = 0; k < weight.in; ++k) {
    if (group[k] < 0 || group[k] >= weight.groups()) {
      refuse(part + ": input " + std::to_string(k) + " is in group " + std::to_string(group[k]) + " of " +
             std::to_string(weight.groups()));
    }
    ++counts[static_cast<std::size_t>(group[k])];
  }
  check_group_sizes(part, counts, weight);
  if (std::is_sorted(group, group + weight.in)) return;
  std::int32_t* order = weight.allocate_input_order();
  std::iota(order, order + weight.in, 0);
  std::stable_sort(order, order + weight.in, [&](std::int32_t a, std::int32_t b) { return group[a] < group[b]; });
}

std::vector<std::int32_t> group_index(const Weight& weight) {
  const std::int32_t* order = weight.input_order.rank == 0 ? nullptr : weight.input_order.as<std::int32_t>();
  std::vector<std::int32_t> groups(static_cast<std::size_t>(weight.in));
  for (std::int64_t j = 0; j < weight.in; ++j) {
    groups[static_cast<std::size_t>(order ? order[j] : j)] = static_cast<std::int32_t>(j / weight.format.group_size);
  }
  return groups;
}

Tensor owned_tensor(std::vector<std::shared_ptr<const void>>& keep, DType dtype, std::int64_t rows, std::int64_t cols) {
  auto memory = std::make_shared<AlignedBuffer>(static_cast<std::size_t>(rows * cols) * dtype_size(dtype));
  void* data = memory->data();
  keep.push_back(std::move(memory));
  return Tensor::of(data, dtype, rows, cols);
}

void write_scales(const Weight& weight, bool transposed, const Tensor& stored) {
  BITTERN_CHECK(is_float(stored.dtype));
  for (std::int64_t n = 0; n < weight.out; ++n) {
    for (std::int64_t g = 0; g < weight.groups(); ++g) {
      const float scale = weight.scales.row<float>(n)[g];
      void* place = transposed ? stored.slice(g, 1).columns(n, 1).data : stored.slice(n, 1).columns(g, 1).data;
      float rounded = 0;
      convert_from_f32(&scale, stored.dtype, 1, place);
      convert_to_f32(place, stored.dtype, 1, &rounded);
      if (std::isfinite(rounded) && (rounded == 0) == (scale == 0)) continue;
      throw Error(ErrorCode::unsupported, weight.name + ": the scale " + std::to_string(scale) + " of output " +
                                              std::to_string(n) + " does not fit " +
                                              std::string(dtype_name(stored.dtype)) + ", which the format stores");
    }
  }
}

bool has_symmetric_zeros(const Weight& weight) {
  if (weight.zeros.rank == 0) return false;
  const std::uint8_t* zeros = weight.zeros.as<std::uint8_t>();
  const int symmetric = 1 << (weight.format.bits - 1);
  return std::all_of(zeros, zeros + weight.zeros.size(), [&](std::uint8_t z) { return z == symmetric; });
}

}  // namespace bittern
