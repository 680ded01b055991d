// Weights as values: allocation, the reference decoding to f32, and the two row operations that fused checkpoint
// layouts need. Rows of every format are whole bytes, so reordering and stacking rows is copying.
#include "tensor/weight.h"

#include <bittern/error.h>

#include <algorithm>
#include <cstring>

#include "base/buffer.h"
#include "base/check.h"
#include "tensor/convert.h"

namespace bittern {
namespace {

std::int64_t tensor_bytes(const Tensor& tensor) {
  return tensor.size() * static_cast<std::int64_t>(dtype_size(tensor.dtype));
}

Tensor owned_matrix(Weight& owner, DType dtype, std::int64_t rows, std::int64_t cols) {
  const std::size_t bytes = static_cast<std::size_t>(rows * cols) * dtype_size(dtype);
  auto memory = std::make_shared<AlignedBuffer>(bytes);
  void* data = memory->data();
  owner.keep.push_back(std::move(memory));
  return Tensor::of(data, dtype, rows, cols);
}

// Copies row `from` of `source` to row `to` of `target`; nothing when the format has no such part.
void copy_row(const Tensor& target, std::int64_t to, const Tensor& source, std::int64_t from) {
  if (source.size() == 0) return;
  const std::size_t size = dtype_size(source.dtype);
  const std::size_t bytes = static_cast<std::size_t>(source.cols()) * size;
  std::memcpy(target.as<std::byte>() + static_cast<std::size_t>(to * target.stride[0]) * size,
              source.as<const std::byte>() + static_cast<std::size_t>(from * source.stride[0]) * size, bytes);
}

void copy_weight_row(const Weight& target, std::int64_t to, const Weight& source, std::int64_t from) {
  copy_row(target.data, to, source.data, from);
  copy_row(target.scales, to, source.scales, from);
  copy_row(target.zeros, to, source.zeros, from);
  copy_row(target.offsets, to, source.offsets, from);
}

Weight::Shift shift_of(const Weight& weight) {
  return weight.offsets.rank == 0 ? Weight::Shift::zeros : Weight::Shift::offsets;
}

// Columns are the same for every row, so a weight made of another's rows shares its order of inputs.
void share_input_order(Weight& target, const Weight& source) {
  if (source.input_order.rank == 0) return;
  target.input_order = source.input_order;
  target.keep.insert(target.keep.end(), source.keep.begin(), source.keep.end());
}

bool same_columns(const Weight& a, const Weight& b) {
  if (a.in != b.in || a.format != b.format || (a.offsets.rank == 0) != (b.offsets.rank == 0)) return false;
  if (a.input_order.rank != b.input_order.rank) return false;
  return a.input_order.rank == 0 ||
         std::equal(a.input_order.as<std::int32_t>(), a.input_order.as<std::int32_t>() + a.in,
                    b.input_order.as<std::int32_t>());
}

// What column `column` decodes to, given its code.
float decode(const Weight& weight, std::int64_t row, std::int64_t column) {
  const std::int64_t group = column / weight.format.group_size;
  const float scale = weight.scales.row<float>(row)[group];
  const float value = code_value(weight.format.codes, weight.code(row, column));
  if (weight.format.codes != Codes::integer) return value * scale;
  if (weight.offsets.rank != 0) return value * scale + weight.offsets.row<float>(row)[group];
  return (value - static_cast<float>(weight.zeros.row<std::uint8_t>(row)[group])) * scale;
}

void decode_grouped_row(const Weight& weight, std::int64_t row, float* out) {
  const std::int32_t* order = weight.input_order.rank == 0 ? nullptr : weight.input_order.as<std::int32_t>();
  for (std::int64_t i = 0; i < weight.in; ++i) out[order ? order[i] : i] = decode(weight, row, i);
}

}  // namespace

std::int64_t Weight::bytes() const {
  return tensor_bytes(data) + tensor_bytes(scales) + tensor_bytes(zeros) + tensor_bytes(offsets) +
         tensor_bytes(input_order);
}

std::uint8_t Weight::code(std::int64_t row, std::int64_t column) const {
  const std::uint8_t* codes = data.row<std::uint8_t>(row);
  if (format.bits > 4) return codes[column];
  return column % 2 == 0 ? codes[column / 2] & 15U : codes[column / 2] >> 4U;
}

void Weight::set_code(std::int64_t row, std::int64_t column, std::uint8_t q) {
  std::uint8_t* codes = data.row<std::uint8_t>(row);
  if (format.bits > 4) {
    codes[column] = q;
    return;
  }
  std::uint8_t& byte = codes[column / 2];
  byte = static_cast<std::uint8_t>(column % 2 == 0 ? (byte & 0xF0U) | (q & 15U) : (byte & 0x0FU) | (q << 4U));
}

std::int32_t* Weight::allocate_input_order() {
  auto memory = std::make_shared<AlignedBuffer>(static_cast<std::size_t>(in) * sizeof(std::int32_t));
  input_order = Tensor::of(memory->data(), DType::i32, in);
  keep.push_back(std::move(memory));
  return input_order.as<std::int32_t>();
}

Weight Weight::allocate(std::string name, Format format, std::int64_t out, std::int64_t in, Shift shift) {
  BITTERN_CHECK(out >= 0 && in >= 0);
  Weight weight;
  weight.name = std::move(name);
  weight.format = format;
  weight.out = out;
  weight.in = in;
  if (format.kind == FormatKind::dense) {
    weight.data = owned_matrix(weight, format.dtype, out, in);
    return weight;
  }
  BITTERN_CHECK(format.group_size > 0 && format.bits >= 2 && format.bits <= 8);
  weight.data = owned_matrix(weight, DType::u8, out, format.bits > 4 ? in : (in + 1) / 2);
  weight.scales = owned_matrix(weight, DType::f32, out, weight.groups());
  if (format.codes != Codes::integer) return weight;
  (shift == Shift::zeros ? weight.zeros : weight.offsets) =
      owned_matrix(weight, shift == Shift::zeros ? DType::u8 : DType::f32, out, weight.groups());
  return weight;
}

Weight to_f32(const Weight& weight) {
  Weight result = Weight::allocate(weight.name, Format::dense(DType::f32), weight.out, weight.in);
  const std::int64_t row_bytes = weight.data.stride[0] * static_cast<std::int64_t>(dtype_size(weight.data.dtype));
  for (std::int64_t row = 0; row < weight.out; ++row) {
    float* out = result.data.row<float>(row);
    if (weight.format.kind == FormatKind::dense) {
      convert_to_f32(weight.data.as<std::byte>() + row * row_bytes, weight.format.dtype, weight.in, out);
    } else {
      decode_grouped_row(weight, row, out);
    }
  }
  return result;
}

Weight reorder_rows(const Weight& weight, const std::vector<std::int64_t>& order) {
  BITTERN_CHECK(static_cast<std::int64_t>(order.size()) == weight.out);
  Weight result = Weight::allocate(weight.name, weight.format, weight.out, weight.in, shift_of(weight));
  share_input_order(result, weight);
  for (std::int64_t row = 0; row < weight.out; ++row) {
    const std::int64_t from = order[static_cast<std::size_t>(row)];
    BITTERN_CHECK(from >= 0 && from < weight.out);
    copy_weight_row(result, row, weight, from);
  }
  return result;
}

Weight concatenate_rows(const std::vector<Weight>& weights) {
  if (weights.empty()) throw Error(ErrorCode::internal, "concatenate_rows: no weights given");
  const Weight& first = weights.front();
  std::int64_t out = 0;
  for (const Weight& weight : weights) {
    if (!same_columns(weight, first)) {
      throw Error(ErrorCode::internal, "concatenate_rows: '" + weight.name + "' is " + weight.format.name() + " with " +
                                           std::to_string(weight.in) + " inputs, '" + first.name + "' is " +
                                           first.format.name() + " with " + std::to_string(first.in));
    }
    out += weight.out;
  }
  Weight result = Weight::allocate(first.name, first.format, out, first.in, shift_of(first));
  share_input_order(result, first);
  std::int64_t to = 0;
  for (const Weight& weight : weights) {
    for (std::int64_t row = 0; row < weight.out; ++row) copy_weight_row(result, to++, weight, row);
  }
  return result;
}

}  // namespace bittern
