// FileLock: one process at a time. The lock is flock's, which the kernel releases when its holder ends, killed or not,
// so that no lock is ever stale; the file it lies on is removed with it. It does not keep out threads or programs that
// do not ask.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace bittern {

class FileLock {
 public:
  /// Takes the lock that `path` stands for, making the file and its folder; nothing when another process (or another
  /// FileLock of this one) holds it. Error(io) when the file cannot be made or locked.
  static std::optional<FileLock> try_lock(const std::filesystem::path& path);
  /// The id that the holder wrote into the file, for messages; "" when there is none.
  static std::string holder(const std::filesystem::path& path);

  FileLock(FileLock&& other) noexcept : path_(std::move(other.path_)), fd_(other.fd_) { other.fd_ = -1; }
  FileLock& operator=(FileLock&&) = delete;
  ~FileLock();

 private:
  FileLock(std::filesystem::path path, int fd) : path_(std::move(path)), fd_(fd) {}

  std::filesystem::path path_;
  int fd_ = -1;
};

}  // namespace bittern
