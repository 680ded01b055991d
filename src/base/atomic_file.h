// Files and directories that appear whole or not at all: written under a temporary name beside the target, synced to
// disk, and renamed over it on commit. Whatever was not committed is removed, also when an exception passes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string_view>

namespace bittern {

/// One file, written from front to back.
class AtomicFile {
 public:
  /// Opens `<path>.partial-<pid>-<n>` in the folder of `path`. Throws Error(io or not_found) naming it.
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  /// Appends; throws Error(io), for example when the disk is full.
  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  /// Bytes written so far.
  uint64_t position() const noexcept { return position_; }
  /// Makes the file appear under its name, replacing an older one, and returns when it is safe on disk. Call it once.
  void commit();

 private:
  void flush();
  void write_through(std::span<const std::byte> bytes);

  std::filesystem::path path_;
  std::filesystem::path temporary_;
  int fd_ = -1;
  uint64_t position_ = 0;
  std::unique_ptr<std::byte[]> buffer_;  // gathers small writes
  size_t buffered_ = 0;
};

/// Writes a whole file atomically.
void write_file_atomically(const std::filesystem::path& path, std::string_view contents);

/// One directory, filled by its user under a temporary name.
class AtomicDirectory {
 public:
  enum class Existing {
    refuse,   // an existing target that is not empty is an error, thrown by the constructor
    replace,  // it is replaced on commit
  };

  /// Creates `<path>.partial-<pid>`. Throws Error(invalid_argument) when the target may not be replaced: it is a file,
  /// it is not empty and `existing` is refuse, or it holds the working or home directory.
  explicit AtomicDirectory(std::filesystem::path path, Existing existing = Existing::refuse);
  ~AtomicDirectory();
  AtomicDirectory(const AtomicDirectory&) = delete;
  AtomicDirectory& operator=(const AtomicDirectory&) = delete;

  /// Where to write until commit.
  const std::filesystem::path& partial() const noexcept { return temporary_; }
  /// Where it will be after commit.
  const std::filesystem::path& path() const noexcept { return path_; }
  /// Syncs every file in it and renames it to its final name. Call it once.
  void commit();

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;
  bool committed_ = false;
};

}  // namespace bittern
