// ModelFiles: the named files that make up a checkpoint (config.json, tokenizer.json, *.safetensors, ...), wherever
// they live: a directory, mapped lazily, or bytes linked into the program. It does not interpret any of them.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace bittern {

/// Bytes of one file and what keeps them alive.
struct FileBytes {
  std::string path;  // for messages
  std::span<const std::byte> bytes;
  std::shared_ptr<const void> keep;

  std::string_view text() const { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }
};

struct EmbeddedFile {
  std::string_view name;
  std::span<const std::byte> bytes;
};

struct RunSettings;

class ModelFiles {
 public:
  virtual ~ModelFiles() = default;
  /// "/models/qwen" or "embedded:mini", for messages.
  virtual const std::string& origin() const = 0;
  /// File names, sorted, without directories.
  virtual std::vector<std::string> list() const = 0;
  /// Maps the file; nullopt when there is none of that name. Throws Error(io) when it exists but cannot be read.
  virtual std::optional<FileBytes> find(std::string_view name) const = 0;
  /// How the model asks to be run (config.ini of a workspace, tensor/run_settings.h); null for most.
  virtual const RunSettings* run_settings() const { return nullptr; }
  /// As find, but a missing file is Error(not_found) that names it and the origin.
  FileBytes require(std::string_view name) const;

  /// Throws Error(not_found) when `dir` is not a directory.
  static std::shared_ptr<const ModelFiles> from_directory(const std::filesystem::path& dir);
  static std::shared_ptr<const ModelFiles> from_embedded(std::string origin, std::vector<EmbeddedFile> files);
};

}  // namespace bittern
