// Model files made in memory, for tests of readers: any bytes under any names, and safetensors files put together from
// a header and data that need not agree.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tensor/model_files.h"

namespace bittern::testing {

class MemoryFiles final : public ModelFiles {
 public:
  explicit MemoryFiles(std::map<std::string, std::string, std::less<>> files) {
    // Held apart, so that bytes handed out outlive these files as a mapping does, and not a byte longer.
    for (auto& [name, text] : files) files_[name] = std::make_shared<const std::vector<char>>(text.begin(), text.end());
  }

  const std::string& origin() const override { return origin_; }
  std::vector<std::string> list() const override {
    std::vector<std::string> names;
    for (const auto& entry : files_) names.push_back(entry.first);
    return names;
  }
  std::optional<FileBytes> find(std::string_view name) const override {
    const auto found = files_.find(name);
    if (found == files_.end()) return std::nullopt;
    return FileBytes{"memory/" + std::string(name), std::as_bytes(std::span(*found->second)), found->second};
  }

 private:
  std::string origin_ = "memory";
  std::map<std::string, std::shared_ptr<const std::vector<char>>, std::less<>> files_;
};

inline std::shared_ptr<const ModelFiles> memory_files(std::map<std::string, std::string, std::less<>> files) {
  return std::make_shared<MemoryFiles>(std::move(files));
}

/// Header length (little-endian), header, data. `claimed` replaces the true length of the header.
inline std::string raw_safetensors(const std::string& header, const std::string& data, std::int64_t claimed = -1) {
  std::uint64_t length = claimed < 0 ? header.size() : static_cast<std::uint64_t>(claimed);
  std::string bytes;
  for (int i = 0; i < 8; ++i, length >>= 8) bytes += static_cast<char>(length & 0xff);
  return bytes + header + data;
}

}  // namespace bittern::testing
