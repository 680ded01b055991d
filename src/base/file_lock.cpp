// flock, and the care that the file which was locked is still the one that has the name.
#include "base/file_lock.h"

#include <bittern/error.h>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>

namespace bittern {
namespace {

[[noreturn]] void fail(const std::filesystem::path& path, const char* what, int code) {
  throw Error(ErrorCode::io, std::string("cannot ") + what + " " + path.string() + ": " + std::strerror(code));
}

/// Whether the open file is the one that has the name: a holder removes its file before it lets go.
bool still_named(int fd, const std::filesystem::path& path) {
  struct stat opened {
  }, named{};
  return fstat(fd, &opened) == 0 && stat(path.c_str(), &named) == 0 && opened.st_dev == named.st_dev &&
         opened.st_ino == named.st_ino;
}

}  // namespace

std::optional<FileLock> FileLock::try_lock(const std::filesystem::path& path) {
  std::error_code failure;
  if (path.has_parent_path()) std::filesystem::create_directories(path.parent_path(), failure);
  if (failure) fail(path.parent_path(), "make", failure.value());
  while (true) {
    FileLock lock(path, ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
    if (lock.fd_ < 0) fail(path, "make", errno);
    if (::flock(lock.fd_, LOCK_EX | LOCK_NB) != 0) {
      const int code = errno;
      ::close(std::exchange(lock.fd_, -1));
      if (code == EWOULDBLOCK) return std::nullopt;
      fail(path, "lock", code);
    }
    if (!still_named(lock.fd_, path)) {
      ::close(std::exchange(lock.fd_, -1));
      continue;
    }
    const std::string id = std::to_string(::getpid()) + "\n";
    if (::ftruncate(lock.fd_, 0) != 0 || ::pwrite(lock.fd_, id.data(), id.size(), 0) < 0) fail(path, "write", errno);
    return lock;
  }
}

std::string FileLock::holder(const std::filesystem::path& path) {
  std::string id;
  std::ifstream(path) >> id;
  return id;
}

FileLock::~FileLock() {
  if (fd_ < 0) return;
  ::unlink(path_.c_str());
  ::close(fd_);
}

}  // namespace bittern
