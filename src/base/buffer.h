// AlignedBuffer: owned, zeroed memory at cache-line alignment or better, on huge pages where the kernel grants them.
// Move-only; it never grows. What lies in it (tensors, packed weights) is the business of its user.
#pragma once

#include <cstddef>
#include <span>
#include <utility>

namespace bittern {

class AlignedBuffer {
 public:
  /// Every buffer starts on a cache line, which is also the width of the widest vector load.
  static constexpr size_t kAlignment = 64;
  static constexpr size_t kHugePage = size_t{2} << 20;

  enum class Pages {
    normal,
    huge,  // ask for transparent huge pages (2 MiB); buffers smaller than one page get normal ones
  };

  AlignedBuffer() = default;
  /// `bytes` of zeros. Large buffers take physical memory only when touched.
  /// Throws Error(out_of_memory) naming the size.
  explicit AlignedBuffer(size_t bytes, Pages pages = Pages::normal);
  ~AlignedBuffer() { release(); }
  AlignedBuffer(AlignedBuffer&& other) noexcept { swap(other); }
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    AlignedBuffer moved(std::move(other));
    swap(moved);
    return *this;
  }
  AlignedBuffer(const AlignedBuffer&) = delete;
  AlignedBuffer& operator=(const AlignedBuffer&) = delete;

  std::byte* data() noexcept { return data_; }
  const std::byte* data() const noexcept { return data_; }
  size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }
  /// Whether the kernel accepted the request for huge pages (it may still hand out normal ones under pressure).
  bool huge_pages() const noexcept { return huge_; }

  /// The whole buffer as objects of T (a trailing part smaller than T is left out).
  template <class T>
  std::span<T> as() noexcept {
    return {reinterpret_cast<T*>(data_), size_ / sizeof(T)};
  }
  template <class T>
  std::span<const T> as() const noexcept {
    return {reinterpret_cast<const T*>(data_), size_ / sizeof(T)};
  }

  void swap(AlignedBuffer& other) noexcept;

 private:
  void release() noexcept;
  void map(size_t bytes, Pages pages);

  std::byte* data_ = nullptr;
  size_t size_ = 0;
  void* mapping_ = nullptr;  // start of the mmap, null when the memory came from the allocator
  size_t mapped_ = 0;        // bytes of the mmap
  bool huge_ = false;
};

}  // namespace bittern
