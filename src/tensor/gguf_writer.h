// Writer of the GGUF container (version 3): metadata, a table of tensors, then their bytes, streamed so that memory
// does not grow with the model. Which metadata a model needs is models/gguf_export.h; its tokenizer's is here, since it
// is made of files alone.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/atomic_file.h"
#include "tensor/gguf_blocks.h"
#include "tensor/model_files.h"

namespace bittern {

/// Metadata in the order in which it is added. A key added twice is Error(internal).
class GgufKeyValues {
 public:
  void text(std::string_view key, std::string_view value);
  void integer(std::string_view key, std::uint32_t value);
  void number(std::string_view key, float value);
  void flag(std::string_view key, bool value);
  void texts(std::string_view key, std::span<const std::string> values);
  void integers(std::string_view key, std::span<const std::int32_t> values);
  void numbers(std::string_view key, std::span<const float> values);

  std::uint64_t count() const { return keys_.size(); }
  const std::string& bytes() const { return bytes_; }

 private:
  void key(std::string_view key, std::uint32_t type);
  void array(std::string_view key, std::uint32_t type, std::uint64_t count);

  std::vector<std::string> keys_;
  std::string bytes_;
};

/// A tensor to be written; dims as in the file, the contiguous one first.
struct GgufTensorSpec {
  std::string name;
  std::vector<std::int64_t> dims;
  GgufType type = GgufType::f32;

  std::int64_t bytes() const;
};

/// Writes one file. The bytes of the tensors follow in the order of declaration, in pieces of any size. Nothing appears
/// under `path` before finish(), and nothing remains if the writer is destroyed without it.
class GgufWriter {
 public:
  GgufWriter(const std::filesystem::path& path, const GgufKeyValues& metadata, std::vector<GgufTensorSpec> tensors);
  /// The next bytes of tensor `name`. Another tensor's turn, or too many bytes, is Error(internal).
  void append(std::string_view name, std::span<const std::byte> data);
  /// Makes the file visible. Error(internal) when bytes are missing.
  void finish();

 private:
  void pad();

  std::vector<GgufTensorSpec> tensors_;
  AtomicFile file_;
  std::size_t next_ = 0;
  std::int64_t in_next_ = 0;
};

/// Adds tokenizer and chat template: tokenizer.json, tokenizer_config.json, chat_template.jinja and
/// generation_config.json of a Hugging Face checkpoint. `vocab` is the number of rows of the embedding.
/// Error(unsupported) names what GGUF cannot say.
void add_gguf_tokenizer(const ModelFiles& files, std::int64_t vocab, GgufKeyValues& metadata);

}  // namespace bittern
