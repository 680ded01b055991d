// HostBuffer: DeviceBuffer of the backends that compute on the host, where device memory is ordinary memory.
#pragma once

#include "backend/backend.h"
#include "base/buffer.h"

namespace bittern {

class HostBuffer final : public DeviceBuffer {
 public:
  /// Zeroed, aligned to a cache line, on huge pages where they pay. Throws Error(out_of_memory).
  explicit HostBuffer(std::int64_t bytes) : memory_(static_cast<std::size_t>(bytes), AlignedBuffer::Pages::huge) {}

  void* data() const override { return const_cast<std::byte*>(memory_.data()); }
  std::int64_t bytes() const override { return static_cast<std::int64_t>(memory_.size()); }

 private:
  AlignedBuffer memory_;
};

}  // namespace bittern
