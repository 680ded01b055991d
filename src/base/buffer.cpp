// AlignedBuffer over the allocator (small) or anonymous mmap (large: zeroed lazily, and aligned for huge pages).
#include "base/buffer.h"

#include <bittern/error.h>
#include <fmt/core.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "base/strings.h"

namespace bittern {
namespace {

// Below this the allocator is cheaper than a mapping, and AddressSanitizer guards the ends.
constexpr size_t kMapFrom = size_t{1} << 20;

size_t round_up(size_t value, size_t multiple) { return (value + multiple - 1) / multiple * multiple; }

[[noreturn]] void throw_out_of_memory(size_t bytes) {
  throw Error(ErrorCode::out_of_memory, fmt::format("cannot allocate {} of memory", human_bytes(bytes)),
              "free memory, or ask for a smaller context, batch or model");
}

}  // namespace

AlignedBuffer::AlignedBuffer(size_t bytes, Pages pages) {
  if (bytes == 0) return;
  if (bytes > SIZE_MAX / 2) throw_out_of_memory(bytes);
  if (bytes >= kMapFrom) {
    map(bytes, pages);
  } else {
    const size_t rounded = round_up(bytes, kAlignment);
    data_ = static_cast<std::byte*>(std::aligned_alloc(kAlignment, rounded));
    if (data_ == nullptr) throw_out_of_memory(bytes);
    std::memset(data_, 0, rounded);
  }
  size_ = bytes;
}

void AlignedBuffer::map(size_t bytes, Pages pages) {
  const bool want_huge = pages == Pages::huge && bytes >= kHugePage;
  // mmap aligns to 4 KiB; one spare huge page lets the data start at a multiple of 2 MiB.
  const size_t length = want_huge ? round_up(bytes, kHugePage) + kHugePage : bytes;
  void* start = mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (start == MAP_FAILED) throw_out_of_memory(bytes);
  mapping_ = start;
  mapped_ = length;
  data_ = static_cast<std::byte*>(start);
  if (!want_huge) return;
  data_ += round_up(reinterpret_cast<uintptr_t>(start), kHugePage) - reinterpret_cast<uintptr_t>(start);
  huge_ = madvise(data_, round_up(bytes, kHugePage), MADV_HUGEPAGE) == 0;
}

void AlignedBuffer::release() noexcept {
  if (mapping_ != nullptr) {
    munmap(mapping_, mapped_);
  } else {
    std::free(data_);
  }
}

void AlignedBuffer::swap(AlignedBuffer& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(mapping_, other.mapping_);
  std::swap(mapped_, other.mapped_);
  std::swap(huge_, other.huge_);
}

}  // namespace bittern
