// Making and slicing Tensor views. Every slice is checked against its source, since a wrong view is memory corruption
// far from its cause.
#include "tensor/tensor.h"

#include "base/check.h"

namespace bittern {
namespace {

std::byte* offset(const Tensor& tensor, std::int64_t elements) {
  if (tensor.data == nullptr) return nullptr;  // a measuring arena hands out views of nothing
  return tensor.as<std::byte>() + elements * static_cast<std::int64_t>(dtype_size(tensor.dtype));
}

}  // namespace

Tensor Tensor::of(void* data, DType dtype, std::int64_t n) { return {data, dtype, 1, {n}, {1}}; }

Tensor Tensor::of(void* data, DType dtype, std::int64_t rows, std::int64_t cols) {
  return {data, dtype, 2, {rows, cols}, {cols, 1}};
}

Tensor Tensor::of(void* data, DType dtype, std::int64_t a, std::int64_t b, std::int64_t c) {
  return {data, dtype, 3, {a, b, c}, {b * c, c, 1}};
}

std::int64_t Tensor::size() const {
  if (rank == 0) return 0;
  std::int64_t product = 1;
  for (int i = 0; i < rank; ++i) product *= shape[i];
  return product;
}

bool Tensor::contiguous() const {
  std::int64_t expected = 1;
  for (int i = rank - 1; i >= 0; --i) {
    if (shape[i] != 1 && stride[i] != expected) return false;
    expected *= shape[i];
  }
  return true;
}

Tensor Tensor::columns(std::int64_t begin, std::int64_t count) const {
  BITTERN_CHECK(rank == 2 && begin >= 0 && count >= 0 && begin + count <= shape[1]);
  Tensor view = *this;
  view.data = offset(*this, begin);
  view.shape[1] = count;
  return view;
}

Tensor Tensor::slice(std::int64_t begin, std::int64_t count) const {
  BITTERN_CHECK(rank >= 1 && begin >= 0 && count >= 0 && begin + count <= shape[0]);
  Tensor view = *this;
  view.data = offset(*this, begin * stride[0]);
  view.shape[0] = count;
  return view;
}

Tensor Tensor::heads(std::int64_t heads, std::int64_t dim) const {
  BITTERN_CHECK(rank == 2 && heads * dim == shape[1]);
  return {data, dtype, 3, {shape[0], heads, dim}, {stride[0], dim, 1}};
}

std::string Tensor::describe() const {
  std::string text = std::string(dtype_name(dtype)) + "[";
  for (int i = 0; i < rank; ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

}  // namespace bittern
