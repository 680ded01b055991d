// Temporary name, fsync, rename, fsync of the folder: after a crash either the old or the new contents are there.
#include "base/atomic_file.h"

#include <bittern/error.h>
#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <system_error>
#include <utility>

#include "base/check.h"
#include "base/os_error.h"

namespace bittern {
namespace fs = std::filesystem;
namespace {

constexpr size_t kBufferBytes = size_t{1} << 20;

fs::path folder_of(const fs::path& path) { return path.has_parent_path() ? path.parent_path() : fs::path("."); }

// "dir/" names the same directory as "dir", but renaming and appending a suffix need the latter.
fs::path without_trailing_slash(fs::path path) {
  path = path.lexically_normal();
  return path.has_filename() || !path.has_relative_path() ? path : path.parent_path();
}

// Unique among the files of this process; the pid keeps processes apart.
fs::path temporary_name(const fs::path& path) {
  static std::atomic<unsigned> counter{0};
  fs::path name = path;
  name += fmt::format(".partial-{}-{}", getpid(), counter.fetch_add(1));
  return name;
}

// Data and metadata of a file or directory reach the disk.
void sync_path(const fs::path& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw_os_error("open", path, errno);
  const int failure = fsync(fd) != 0 ? errno : 0;
  close(fd);
  // Some network and overlay file systems cannot sync a directory; there is nothing more to ask of them.
  if (failure != 0 && failure != EINVAL && failure != ENOTSUP) throw_os_error("sync", path, failure);
}

void rename_path(const fs::path& from, const fs::path& to) {
  if (std::rename(from.c_str(), to.c_str()) != 0) throw_os_error("write", to, errno);
}

}  // namespace

AtomicFile::AtomicFile(fs::path path)
    : path_(std::move(path)), temporary_(temporary_name(path_)), buffer_(new std::byte[kBufferBytes]) {
  fd_ = open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd_ < 0) throw_os_error("create", temporary_, errno);
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  close(fd_);
  unlink(temporary_.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  BITTERN_CHECK(fd_ >= 0, "write to {} after commit", path_.string());
  position_ += bytes.size();
  if (bytes.size() > kBufferBytes - buffered_) flush();
  if (bytes.size() >= kBufferBytes) return write_through(bytes);
  if (!bytes.empty()) std::memcpy(buffer_.get() + buffered_, bytes.data(), bytes.size());
  buffered_ += bytes.size();
}

void AtomicFile::write(std::string_view text) { write(std::as_bytes(std::span(text))); }

void AtomicFile::flush() {
  const size_t pending = std::exchange(buffered_, 0);
  write_through({buffer_.get(), pending});
}

void AtomicFile::write_through(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw_os_error("write", temporary_, errno);
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
}

void AtomicFile::commit() {
  BITTERN_CHECK(fd_ >= 0, "second commit of {}", path_.string());
  flush();
  if (fsync(fd_) != 0) throw_os_error("sync", temporary_, errno);
  rename_path(temporary_, path_);
  close(std::exchange(fd_, -1));
  sync_path(folder_of(path_));
}

void write_file_atomically(const fs::path& path, std::string_view contents) {
  AtomicFile file(path);
  file.write(contents);
  file.commit();
}

namespace {

// Whether `inner` is `outer` or lies in it.
bool contains(const fs::path& outer, const fs::path& inner) {
  const fs::path relative = fs::weakly_canonical(inner).lexically_relative(fs::weakly_canonical(outer));
  return !relative.empty() && *relative.begin() != "..";
}

void require_replaceable(const fs::path& path, AtomicDirectory::Existing existing) {
  if (!fs::exists(path)) return;
  const auto refuse = [&](const char* reason, const char* hint) {
    throw Error(ErrorCode::invalid_argument, fmt::format("cannot write to {}: {}", path.string(), reason), hint);
  };
  if (!fs::is_directory(path)) refuse("it exists and is not a directory", "choose another output");
  if (fs::is_empty(path)) return;
  if (existing == AtomicDirectory::Existing::refuse) {
    refuse("the directory exists and is not empty", "choose another output, or ask to overwrite it");
  }
  const char* home = std::getenv("HOME");
  if (contains(path, fs::current_path()) || (home != nullptr && contains(path, home))) {
    refuse("replacing it would remove the working or home directory", "choose another output");
  }
}

}  // namespace

AtomicDirectory::AtomicDirectory(fs::path path, Existing existing) : path_(without_trailing_slash(std::move(path))) {
  std::error_code failure;
  require_replaceable(path_, existing);
  temporary_ = path_;
  temporary_ += fmt::format(".partial-{}", getpid());
  fs::remove_all(temporary_, failure);  // left by an earlier process that had our pid
  fs::create_directories(temporary_, failure);
  if (failure) throw_os_error("create", temporary_, failure.value());
}

AtomicDirectory::~AtomicDirectory() {
  std::error_code ignored;
  if (!committed_) fs::remove_all(temporary_, ignored);
}

void AtomicDirectory::commit() {
  BITTERN_CHECK(!committed_, "second commit of {}", path_.string());
  for (const auto& entry : fs::recursive_directory_iterator(temporary_)) {
    if (entry.is_regular_file() || entry.is_directory()) sync_path(entry.path());
  }
  sync_path(temporary_);
  // rename() replaces an empty directory but no other, so an old one steps aside first.
  fs::path old = path_;
  old += fmt::format(".old-{}", getpid());
  const bool replaces = fs::exists(path_) && !fs::is_empty(path_);
  if (replaces) rename_path(path_, old);
  try {
    rename_path(temporary_, path_);
  } catch (...) {
    if (replaces) std::rename(old.c_str(), path_.c_str());
    throw;
  }
  committed_ = true;
  sync_path(folder_of(path_));
  if (replaces) fs::remove_all(old);
}

}  // namespace bittern
