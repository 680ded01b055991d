// Arena: the memory of one step's activations, taken once from the plan and handed out by moving a pointer.
// reset() starts the next step; running past the end is a bug of the plan and stops the program by name.
// A measuring arena has no memory and only counts: a forward pass over MeasureBackend with it *is* the memory plan.
#pragma once

#include <cstdint>
#include <memory>

#include "backend/backend.h"

namespace bittern {

class Arena {
 public:
  /// Counts only; tensors it hands out have null data.
  Arena() = default;
  Arena(Backend& backend, std::int64_t bytes);

  Tensor take(DType dtype, std::int64_t rows, std::int64_t cols);
  Tensor take(DType dtype, std::int64_t n);
  void reset() { used_ = 0; }

  /// Marks a point to return to, so that a layer's temporaries are reused by the next layer.
  std::int64_t mark() const { return used_; }
  void release(std::int64_t mark) { used_ = mark; }

  std::int64_t capacity() const { return capacity_; }
  std::int64_t peak() const { return peak_; }

 private:
  void* bump(std::int64_t bytes);

  std::unique_ptr<DeviceBuffer> memory_;
  std::int64_t capacity_ = 0;
  std::int64_t used_ = 0;
  std::int64_t peak_ = 0;
};

}  // namespace bittern
