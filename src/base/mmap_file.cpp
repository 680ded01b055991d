// MmapFile over open, fstat and mmap; each failure becomes an Error that names the path.
#include "base/mmap_file.h"

#include <bittern/error.h>
#include <fcntl.h>
#include <fmt/core.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/os_error.h"

namespace bittern {
namespace {

// Closes the descriptor at scope end: a mapping lives on without it.
struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) close(fd);
  }
};

size_t regular_file_size(int fd, const std::filesystem::path& path) {
  struct stat info = {};
  if (fstat(fd, &info) != 0) throw_os_error("read", path, errno);
  if (!S_ISREG(info.st_mode)) {
    throw Error(ErrorCode::io, fmt::format("cannot read {}: it is not a regular file", path.string()));
  }
  return static_cast<size_t>(info.st_size);
}

int advice(MmapFile::Access access) {
  switch (access) {
    case MmapFile::Access::normal: return MADV_NORMAL;
    case MmapFile::Access::sequential: return MADV_SEQUENTIAL;
    case MmapFile::Access::random: return MADV_RANDOM;
    case MmapFile::Access::will_need: return MADV_WILLNEED;
    case MmapFile::Access::dont_need: return MADV_DONTNEED;
  }
  return MADV_NORMAL;
}

}  // namespace

MmapFile::MmapFile(const std::filesystem::path& path) : path_(path) {
  const Descriptor file{open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.fd < 0) throw_os_error("open", path, errno);
  size_ = regular_file_size(file.fd, path);
  if (size_ == 0) return;  // mmap refuses a length of 0
  void* start = mmap(nullptr, size_, PROT_READ, MAP_SHARED, file.fd, 0);
  if (start == MAP_FAILED) throw_os_error("map", path, errno);
  data_ = static_cast<const std::byte*>(start);
}

MmapFile::~MmapFile() {
  if (data_ != nullptr) munmap(const_cast<std::byte*>(data_), size_);
}

void MmapFile::advise(Access access, size_t offset, size_t length) const noexcept {
  if (offset >= size_) return;
  length = std::min(length, size_ - offset);
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t start = offset / page * page;
  madvise(const_cast<std::byte*>(data_) + start, length + (offset - start), advice(access));
}

void MmapFile::swap(MmapFile& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  path_.swap(other.path_);
}

}  // namespace bittern
