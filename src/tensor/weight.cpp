// Weights as values: allocation, the reference decoding to f32, and the two row operations that fused checkpoint
// layouts need. Rows of every format are whole bytes, so reordering and stacking rows is copying.
#include "tensor/weight.h"

#include <bittern/error.h>

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
}

void decode_int4_row(const Weight& weight, std::int64_t row, float* out) {
  const std::uint8_t* q = weight.data.row<std::uint8_t>(row);
  const float* scales = weight.scales.row<float>(row);
  const std::uint8_t* zeros = weight.zeros.row<std::uint8_t>(row);
  for (std::int64_t i = 0; i < weight.in; ++i) {
    const std::int64_t group = i / weight.format.group_size;
    const int value = i % 2 == 0 ? q[i / 2] & 15 : q[i / 2] >> 4;
    out[i] = static_cast<float>(value - zeros[group]) * scales[group];
  }
}

}  // namespace

std::int64_t Weight::bytes() const { return tensor_bytes(data) + tensor_bytes(scales) + tensor_bytes(zeros); }

Weight Weight::allocate(std::string name, Format format, std::int64_t out, std::int64_t in) {
  BITTERN_CHECK(out >= 0 && in >= 0);
  Weight weight{std::move(name), format, out, in, {}, {}, {}, {}};
  if (format.kind == FormatKind::dense) {
    weight.data = owned_matrix(weight, format.dtype, out, in);
    return weight;
  }
  BITTERN_CHECK(format.group_size > 0);
  weight.data = owned_matrix(weight, DType::u8, out, (in + 1) / 2);
  weight.scales = owned_matrix(weight, DType::f32, out, weight.groups());
  weight.zeros = owned_matrix(weight, DType::u8, out, weight.groups());
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
      decode_int4_row(weight, row, out);
    }
  }
  return result;
}

Weight reorder_rows(const Weight& weight, const std::vector<std::int64_t>& order) {
  BITTERN_CHECK(static_cast<std::int64_t>(order.size()) == weight.out);
  Weight result = Weight::allocate(weight.name, weight.format, weight.out, weight.in);
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
    if (weight.in != first.in || weight.format != first.format) {
      throw Error(ErrorCode::internal, "concatenate_rows: '" + weight.name + "' is " + weight.format.name() + " with " +
                                           std::to_string(weight.in) + " inputs, '" + first.name + "' is " +
                                           first.format.name() + " with " + std::to_string(first.in));
    }
    out += weight.out;
  }
  Weight result = Weight::allocate(first.name, first.format, out, first.in);
  std::int64_t to = 0;
  for (const Weight& weight : weights) {
    for (std::int64_t row = 0; row < weight.out; ++row) copy_weight_row(result, to++, weight, row);
  }
  return result;
}

}  // namespace bittern
