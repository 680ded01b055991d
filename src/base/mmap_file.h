// MmapFile: a whole file mapped read-only, so that checkpoints larger than memory can be read without copying.
// It neither parses nor writes. A file that another process truncates while it is mapped ends this one (SIGBUS).
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>
#include <utility>

namespace bittern {

class MmapFile {
 public:
  /// How the kernel should treat the pages (madvise); a hint, so failures are ignored.
  enum class Access { normal, sequential, random, will_need, dont_need };

  MmapFile() = default;
  /// Maps the file. Throws Error(not_found or io) naming the path and the reason; a directory is refused.
  explicit MmapFile(const std::filesystem::path& path);
  ~MmapFile();
  MmapFile(MmapFile&& other) noexcept { swap(other); }
  MmapFile& operator=(MmapFile&& other) noexcept {
    MmapFile moved(std::move(other));
    swap(moved);
    return *this;
  }
  MmapFile(const MmapFile&) = delete;
  MmapFile& operator=(const MmapFile&) = delete;

  size_t size() const noexcept { return size_; }
  std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }
  std::string_view text() const noexcept { return {reinterpret_cast<const char*>(data_), size_}; }
  const std::filesystem::path& path() const noexcept { return path_; }

  void advise(Access access) const noexcept { advise(access, 0, size_); }
  /// The same for part of the file; the range is widened to whole pages and clipped to the file.
  void advise(Access access, size_t offset, size_t length) const noexcept;

  void swap(MmapFile& other) noexcept;

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
  std::filesystem::path path_;
};

}  // namespace bittern
