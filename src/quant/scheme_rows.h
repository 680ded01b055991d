// The rows of the table of schemes by disk format, and what their functions share. scheme.cpp joins them.
#pragma once

#include <array>
#include <span>

#include "quant/scheme.h"

namespace bittern::quant {

std::span<const Scheme> gptq_schemes();
std::span<const Scheme> compressed_schemes();

/// Group sizes of all weight-only schemes.
inline constexpr std::array<std::int64_t, 4> kGroupSizes = {32, 64, 128, -1};

inline std::span<const std::byte> bytes_of(const Tensor& tensor) {
  return {tensor.as<const std::byte>(), static_cast<std::size_t>(tensor.size()) * dtype_size(tensor.dtype)};
}

inline std::int64_t total_bytes(const std::vector<TensorSpec>& tensors) {
  std::int64_t bytes = 0;
  for (const TensorSpec& tensor : tensors) bytes += tensor.bytes();
  return bytes;
}

}  // namespace bittern::quant
