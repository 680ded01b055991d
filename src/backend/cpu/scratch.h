// Scratch: memory that operations of the CPU backend use between reading their inputs and writing their outputs.
// It grows to the largest size ever asked for and stays there, so that a step allocates nothing once every shape has
// been seen. One caller at a time: the backend's operations are not called from two threads at once.
#pragma once

#include <cstddef>

#include "base/buffer.h"

namespace bittern::cpu {

class Scratch {
 public:
  /// At least `count` objects of T, aligned to a cache line; contents are whatever was there.
  template <class T>
  T* get(std::size_t count) {
    if (memory_.size() < count * sizeof(T)) memory_ = AlignedBuffer(count * sizeof(T), AlignedBuffer::Pages::huge);
    return reinterpret_cast<T*>(memory_.data());
  }

 private:
  AlignedBuffer memory_;
};

}  // namespace bittern::cpu
