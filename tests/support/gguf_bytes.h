// GGUF files put together byte by byte, for tests of the reader: nothing is checked, so that files can lie.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace bittern::testing {

struct GgufBytes {
  std::string bytes;

  template <class T>
  GgufBytes& put(T value) {
    bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
    return *this;
  }
  GgufBytes& text(std::string_view value) {
    put<std::uint64_t>(value.size());
    bytes += value;
    return *this;
  }
  GgufBytes& header(std::uint64_t tensors, std::uint64_t values) {
    bytes += "GGUF";
    return put<std::uint32_t>(3).put(tensors).put(values);
  }
  /// Key and type; the value follows.
  GgufBytes& key(std::string_view name, std::uint32_t type) { return text(name).put(type); }
  GgufBytes& tensor(std::string_view name, const std::vector<std::int64_t>& dims, std::uint32_t type,
                    std::uint64_t offset) {
    text(name).put(static_cast<std::uint32_t>(dims.size()));
    for (const std::int64_t dim : dims) put(dim);
    return put(type).put(offset);
  }
  GgufBytes& align(std::size_t alignment) {
    bytes.resize((bytes.size() + alignment - 1) / alignment * alignment, '\0');
    return *this;
  }
};

}  // namespace bittern::testing
