// Reader and writer of the safetensors format: 8 bytes of header length, a JSON header, then the tensors' bytes.
// Reading trusts nothing: every claim of the header is checked against the file before a tensor is handed out, and an
// error names file, tensor and reason. Writing streams, so that memory does not grow with the model.
// It knows nothing of models or quantization; tensor/checkpoint.h puts files together.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/atomic_file.h"
#include "tensor/checkpoint.h"
#include "tensor/model_files.h"

namespace bittern {

/// One tensor of a file, with the place of its bytes.
struct SafetensorsEntry : TensorEntry {
  std::span<const std::byte> data;
};

/// A parsed file. Entries point into the mapping that `bytes.keep` holds.
struct SafetensorsFile {
  FileBytes bytes;
  std::vector<SafetensorsEntry> entries;        // in the order of their data
  std::map<std::string, std::string> metadata;  // "__metadata__"
};

/// Parses and checks the header. Error(invalid_checkpoint) when the header is too long, truncated, not a JSON object,
/// repeats a name, or when a tensor overlaps another, leaves a gap, lies outside the file or has another size than its
/// shape and element type say.
SafetensorsFile read_safetensors(FileBytes file);

/// A tensor to be written.
struct TensorSpec {
  std::string name;
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape;

  /// Size of the data.
  std::int64_t bytes() const;
};

/// Writes one file. All tensors are declared first; their bytes then follow in the order of declaration, in pieces of
/// any size. Nothing appears under `path` before finish(), and nothing remains if the writer is destroyed without it.
class SafetensorsWriter {
 public:
  /// Error(invalid_argument) for a name given twice or a negative dimension, Error(io) when the file cannot be made.
  SafetensorsWriter(const std::filesystem::path& path, std::vector<TensorSpec> tensors,
                    const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

  /// The next bytes of the data. More than was declared is Error(internal).
  void append(std::span<const std::byte> data);
  /// The whole of the next tensor. Error(internal) when it is not `name` or the size differs from its declaration.
  void write(std::string_view name, std::span<const std::byte> data);
  /// Makes the file visible. Error(internal) when bytes are missing.
  void finish();

 private:
  std::vector<TensorSpec> tensors_;
  AtomicFile file_;
  std::size_t next_ = 0;      // tensor that takes the next byte
  std::int64_t in_next_ = 0;  // bytes of it already written
};

/// Writes a set of tensors into `dir` as the hub does: model.safetensors when it fits in one file of `max_bytes`, else
/// model-00001-of-0000N.safetensors with model.safetensors.index.json. Same order of calls as SafetensorsWriter.
class ShardedSafetensorsWriter {
 public:
  static constexpr std::int64_t kDefaultShardBytes = std::int64_t{5} << 30;

  ShardedSafetensorsWriter(const std::filesystem::path& dir, std::vector<TensorSpec> tensors,
                           std::int64_t max_bytes = kDefaultShardBytes);
  void write(std::string_view name, std::span<const std::byte> data);
  /// Makes the last shard and the index visible.
  void finish();
  /// Names of the files this writer makes, the index included.
  const std::vector<std::string>& files() const { return files_; }

 private:
  void open_shard();

  std::filesystem::path dir_;
  std::vector<std::vector<TensorSpec>> shards_;
  std::vector<std::string> files_;
  std::int64_t total_bytes_ = 0;
  std::size_t shard_ = 0;  // the one being written
  std::size_t written_in_shard_ = 0;
  std::unique_ptr<SafetensorsWriter> writer_;
};

}  // namespace bittern
