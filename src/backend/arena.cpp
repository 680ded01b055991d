// The step arena: a pointer that moves in steps of a cache line, so that every tensor starts on one.
#include "backend/arena.h"

#include <algorithm>

#include "base/check.h"

namespace bittern {
namespace {

constexpr std::int64_t kAlignment = 64;

}  // namespace

Arena::Arena(Backend& backend, std::int64_t bytes) : memory_(backend.allocate(bytes)), capacity_(bytes) {}

Tensor Arena::take(DType dtype, std::int64_t rows, std::int64_t cols) {
  BITTERN_CHECK(rows >= 0 && cols >= 0);
  return Tensor::of(bump(rows * cols * static_cast<std::int64_t>(dtype_size(dtype))), dtype, rows, cols);
}

Tensor Arena::take(DType dtype, std::int64_t n) {
  BITTERN_CHECK(n >= 0);
  return Tensor::of(bump(n * static_cast<std::int64_t>(dtype_size(dtype))), dtype, n);
}

void* Arena::bump(std::int64_t bytes) {
  const std::int64_t begin = used_;
  used_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
  peak_ = std::max(peak_, used_);
  if (!memory_) return nullptr;
  BITTERN_CHECK(used_ <= capacity_, "the step needs {} bytes of activations, its plan has {}", used_, capacity_);
  return static_cast<std::byte*>(memory_->data()) + begin;
}

}  // namespace bittern
