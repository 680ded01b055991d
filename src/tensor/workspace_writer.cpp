// Writing front to back: packings at whole pages, everything else at cache lines. The format allows no gaps, so what
// lies between is a tensor too, named ".pad.N".
#include "tensor/workspace_writer.h"

#include <bittern/error.h>
#include <bittern/version.h>
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/check.h"
#include "base/mmap_file.h"
#include "base/os_error.h"
#include "base/sha256.h"

namespace bittern {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kPage = 4096;
constexpr std::int64_t kLine = 64;

std::int64_t round_up(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

std::span<const std::byte> bytes_of(const Tensor& tensor) {
  BITTERN_CHECK(tensor.contiguous(), "{}", tensor.describe());
  return {tensor.as<const std::byte>(), static_cast<std::size_t>(tensor.size()) * dtype_size(tensor.dtype)};
}

std::string digest_of_file(const fs::path& path) {
  Sha256 sum;
  sum.update(MmapFile(path).bytes());
  return sum.finish();
}

}  // namespace

WorkspaceWriter::WorkspaceWriter(fs::path dir, const std::vector<std::string>& names) : dir_(std::move(dir)) {
  std::error_code failure;
  fs::create_directories(dir_ / kWorkspaceFolder, failure);
  if (failure) throw_os_error("create", dir_ / kWorkspaceFolder, failure.value());
  path_ = dir_ / kWorkspaceFolder / kPackedFile;
  // A weight has at most six tensors and as many pads, each with its name and some 120 bytes more.
  std::int64_t room = kPage;
  for (const std::string& name : names) room += 6 * (2 * 160 + static_cast<std::int64_t>(name.size()));
  header_bytes_ = position_ = round_up(room, kPage);
  fd_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd_ < 0) throw_os_error("create", path_, errno);
  if (lseek(fd_, position_, SEEK_SET) < 0) throw_os_error("write", path_, errno);
}

WorkspaceWriter::~WorkspaceWriter() {
  if (fd_ >= 0) close(fd_);
}

void WorkspaceWriter::write(std::span<const std::byte> data) {
  while (!data.empty()) {
    const ssize_t written = ::write(fd_, data.data(), std::min<std::size_t>(data.size(), std::size_t{1} << 30));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw_os_error("write", path_, errno);
    data = data.subspan(static_cast<std::size_t>(written));
    position_ += written;
  }
}

void WorkspaceWriter::add_tensor(const std::string& name, DType dtype, std::vector<std::int64_t> shape,
                                 std::span<const std::byte> data, std::int64_t alignment) {
  const std::int64_t gap = round_up(position_, alignment) - position_;
  if (gap > 0) {
    tensors_.push_back({".pad." + std::to_string(tensors_.size()), DType::u8, {gap}});
    write(std::vector<std::byte>(static_cast<std::size_t>(gap)));
  }
  tensors_.push_back({name, dtype, std::move(shape)});
  BITTERN_CHECK(tensors_.back().bytes() == static_cast<std::int64_t>(data.size()), "{}", name);
  Sha256 sum;
  sum.update(data);
  manifest_.sha256[name] = sum.finish();
  write(data);
}

void WorkspaceWriter::add_order(const std::string& name, std::span<const std::int32_t> order) {
  add_tensor(name, DType::i32, {static_cast<std::int64_t>(order.size())}, std::as_bytes(order), kLine);
}

void WorkspaceWriter::add_row_order(const std::string& name, const std::vector<std::int64_t>& row_order) {
  if (row_order.empty()) return;
  add_order(name + ".row_order", std::vector<std::int32_t>(row_order.begin(), row_order.end()));
}

void WorkspaceWriter::add_packing(const std::string& name, const SavedPacking& saved,
                                  const std::vector<std::int64_t>& row_order) {
  WorkspaceWeight weight;
  weight.format = saved.format;
  weight.out = saved.out;
  weight.in = saved.in;
  weight.packed = true;
  weight.bytes = static_cast<std::int64_t>(saved.bytes.size());
  weight.parameters = saved.parameters;
  weight.input_order = !saved.input_order.empty();
  weight.row_order = !row_order.empty();
  add_tensor(name + ".packed", DType::u8, {weight.bytes}, saved.bytes, kPage);
  if (weight.input_order) add_order(name + ".input_order", saved.input_order);
  add_row_order(name, row_order);
  manifest_.layout = saved.layout;
  manifest_.weights[name] = std::move(weight);
}

void WorkspaceWriter::add_canonical(const std::string& name, const Weight& weight,
                                    const std::vector<std::int64_t>& row_order) {
  BITTERN_CHECK(weight.format.kind == FormatKind::grouped, "{} is {}", name, weight.format.name());
  const auto add = [&](const char* part, const Tensor& tensor) {
    if (tensor.rank == 0) return;
    const std::vector<std::int64_t> shape(tensor.shape.begin(), tensor.shape.begin() + tensor.rank);
    add_tensor(name + part, tensor.dtype, shape, bytes_of(tensor), kLine);
  };
  add(".data", weight.data);
  add(".scales", weight.scales);
  add(".zeros", weight.zeros);
  add(".offsets", weight.offsets);
  add(".input_order", weight.input_order);
  add_row_order(name, row_order);
  WorkspaceWeight stored;
  stored.format = weight.format;
  stored.out = weight.out;
  stored.in = weight.in;
  stored.input_order = weight.input_order.rank != 0;
  stored.row_order = !row_order.empty();
  manifest_.weights[name] = std::move(stored);
}

void WorkspaceWriter::add_vector(const std::string& name, const Weight& weight,
                                 const std::vector<std::int64_t>& shape) {
  add_tensor(name, weight.format.dtype, shape, bytes_of(weight.data), kLine);
  manifest_.vectors.push_back(name);
}

void WorkspaceWriter::write_header() {
  OrderedJson header = {{"__metadata__", {{"format", "bittern-workspace"}}}};
  std::int64_t offset = 0;
  for (const TensorSpec& tensor : tensors_) {
    const std::int64_t end = offset + tensor.bytes();
    header[tensor.name] = {
        {"dtype", safetensors_dtype_name(tensor.dtype)}, {"shape", tensor.shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  const auto room = static_cast<std::uint64_t>(header_bytes_) - 8;
  BITTERN_CHECK(text.size() <= room, "a header of {} bytes in {}", text.size(), room);
  text.resize(room, ' ');
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &room, 8);
  bytes += text;
  const std::int64_t end = position_;
  if (lseek(fd_, 0, SEEK_SET) < 0) throw_os_error("write", path_, errno);
  write(std::as_bytes(std::span(bytes)));
  position_ = end;
}

void WorkspaceWriter::finish(WorkspaceManifest manifest, const ConfigIni& config_ini,
                             const std::vector<std::string>& others) {
  write_header();
  if (close(std::exchange(fd_, -1)) != 0) throw_os_error("write", path_, errno);
  manifest.program = std::string("bittern ") + kVersion;
  if (!manifest_.layout.name.empty()) manifest.layout = manifest_.layout;
  manifest.file_bytes = position_;
  manifest.weights = std::move(manifest_.weights);
  manifest.vectors = std::move(manifest_.vectors);
  manifest.sha256 = std::move(manifest_.sha256);
  const fs::path folder(kWorkspaceFolder);
  write_file_atomically(dir_ / folder / kConfigIniFile, config_ini.format());
  write_file_atomically(dir_ / folder / kManifestFile, manifest.to_json().dump(1) + "\n");
  std::string sums;
  std::vector<std::string> names = others;
  names.push_back((folder / kManifestFile).string());
  for (const std::string& name : names) sums += digest_of_file(dir_ / name) + "  " + name + "\n";
  write_file_atomically(dir_ / kChecksumFile, sums);
}

}  // namespace bittern
