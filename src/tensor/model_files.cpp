// The two homes of a checkpoint's files: a directory, whose files are mapped when asked for, and bytes linked into the
// program. A name is always a plain file name: one with a separator is refused, so nothing outside can be reached.
#include "tensor/model_files.h"

#include <bittern/error.h>

#include <algorithm>

#include "base/mmap_file.h"
#include "tensor/quote_name.h"

namespace bittern {
namespace {

namespace fs = std::filesystem;

// A checkpoint's own index names its shards, so a name may be hostile.
void check_plain_name(std::string_view name, const std::string& origin) {
  const bool plain = !name.empty() && name != "." && name != ".." && name.find('/') == name.npos &&
                     name.find('\\') == name.npos && name.find('\0') == name.npos;
  if (plain) return;
  throw Error(ErrorCode::invalid_argument, origin + ": " + quote_name(name) + " is not a plain file name");
}

class DirectoryFiles final : public ModelFiles {
 public:
  explicit DirectoryFiles(const fs::path& dir) : dir_(dir), origin_(dir.string()) {}

  const std::string& origin() const override { return origin_; }

  std::vector<std::string> list() const override {
    std::vector<std::string> names;
    std::error_code error;
    for (fs::directory_iterator it(dir_, error), end; !error && it != end; it.increment(error)) {
      std::error_code ignored;  // a dangling link is not a file
      if (it->is_regular_file(ignored)) names.push_back(it->path().filename().string());
    }
    if (error) throw Error(ErrorCode::io, origin_ + ": cannot list the directory: " + error.message());
    std::sort(names.begin(), names.end());
    return names;
  }

  std::optional<FileBytes> find(std::string_view name) const override {
    check_plain_name(name, origin_);
    const fs::path path = dir_ / name;
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    if (status.type() == fs::file_type::not_found) return std::nullopt;
    if (status.type() == fs::file_type::none) {
      throw Error(ErrorCode::io, path.string() + ": cannot be read: " + error.message());
    }
    if (status.type() != fs::file_type::regular) throw Error(ErrorCode::io, path.string() + ": is not a file");
    auto file = std::make_shared<MmapFile>(path);
    const std::span<const std::byte> bytes = file->bytes();
    return FileBytes{path.string(), bytes, std::move(file)};
  }

 private:
  fs::path dir_;
  std::string origin_;
};

class EmbeddedFiles final : public ModelFiles {
 public:
  EmbeddedFiles(std::string origin, std::vector<EmbeddedFile> files)
      : origin_(std::move(origin)), files_(std::move(files)) {
    std::sort(files_.begin(), files_.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  }

  const std::string& origin() const override { return origin_; }

  std::vector<std::string> list() const override {
    std::vector<std::string> names;
    for (const EmbeddedFile& file : files_) names.emplace_back(file.name);
    return names;
  }

  std::optional<FileBytes> find(std::string_view name) const override {
    check_plain_name(name, origin_);
    for (const EmbeddedFile& file : files_) {
      if (file.name == name) return FileBytes{origin_ + "/" + std::string(name), file.bytes, nullptr};
    }
    return std::nullopt;
  }

 private:
  std::string origin_;
  std::vector<EmbeddedFile> files_;
};

}  // namespace

FileBytes ModelFiles::require(std::string_view name) const {
  if (std::optional<FileBytes> file = find(name)) return *std::move(file);
  throw Error(ErrorCode::not_found, origin() + " has no " + std::string(name), "is this a Hugging Face checkpoint?");
}

std::shared_ptr<const ModelFiles> ModelFiles::from_directory(const fs::path& dir) {
  std::error_code error;
  const fs::file_status status = fs::status(dir, error);
  if (status.type() == fs::file_type::directory) return std::make_shared<DirectoryFiles>(dir);
  const bool exists = fs::exists(status);
  throw Error(ErrorCode::not_found, dir.string() + (exists ? ": is not a directory" : ": no such directory"),
              "give the directory that holds config.json and the safetensors files");
}

std::shared_ptr<const ModelFiles> ModelFiles::from_embedded(std::string origin, std::vector<EmbeddedFile> files) {
  return std::make_shared<EmbeddedFiles>(std::move(origin), std::move(files));
}

}  // namespace bittern
