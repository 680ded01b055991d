// An O_TMPFILE where the file system has them, else a temporary file that is unlinked at once.
#include "quant/spill.h"

#include <bittern/error.h>

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>

#include "base/check.h"

namespace bittern::quant {
namespace {

[[noreturn]] void fail(const std::filesystem::path& folder, const char* what) {
  const int code = errno;
  throw Error(ErrorCode::io,
              std::string("cannot ") + what + " a temporary file in " + folder.string() + ": " + std::strerror(code));
}

int open_unnamed(const std::filesystem::path& folder) {
#ifdef O_TMPFILE
  const int fd = ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd >= 0) return fd;
#endif
  std::string name = (folder / ".spill-XXXXXX").string();
  const int named = ::mkostemp(name.data(), O_CLOEXEC);
  if (named < 0) fail(folder, "make");
  ::unlink(name.c_str());
  return named;
}

}  // namespace

Spill::Spill(const std::filesystem::path& folder)
    : folder_(folder.empty() ? "." : folder), fd_(open_unnamed(folder_)) {}

Spill::~Spill() { ::close(fd_); }

void Spill::append(std::span<const float> values) {
  auto bytes = std::as_bytes(values);
  auto place = size_ * static_cast<std::int64_t>(sizeof(float));
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(fd_, bytes.data(), bytes.size(), place);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) fail(folder_, "write to");
    bytes = bytes.subspan(static_cast<std::size_t>(written));
    place += written;
  }
  size_ += std::ssize(values);
}

void Spill::read(std::int64_t first, std::span<float> values) const {
  BITTERN_CHECK(first >= 0 && first + std::ssize(values) <= size_);
  auto bytes = std::as_writable_bytes(values);
  auto place = first * static_cast<std::int64_t>(sizeof(float));
  while (!bytes.empty()) {
    const ssize_t got = ::pread(fd_, bytes.data(), bytes.size(), place);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) fail(folder_, "read from");
    bytes = bytes.subspan(static_cast<std::size_t>(got));
    place += got;
  }
}

}  // namespace bittern::quant
