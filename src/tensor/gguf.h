// Reader of the GGUF container (versions 2 and 3): metadata, a table of tensors, and their bytes, over a mapped file.
// Reading trusts nothing: every count, length and offset is checked against the file before it is used, and an error
// names the file and what is wrong with it. What the blocks of a tensor mean is gguf_blocks.h, what the metadata means
// for a model gguf_config.h and gguf_tokenizer.h.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/model_files.h"

namespace bittern {

/// Types of metadata values, by their number in the file.
enum class GgufValueType : std::uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, text, array, u64, i64, f64 };

/// One metadata value, not yet decoded. For an array `type` is that of its elements.
struct GgufValue {
  GgufValueType type = GgufValueType::u8;
  bool is_array = false;
  std::uint64_t count = 1;           // elements
  std::span<const std::byte> bytes;  // of the elements; texts with their lengths in front
};

/// Metadata by key. Getters return nothing (or the fallback) for a missing key, and throw Error(invalid_checkpoint)
/// naming file and key when the value has another type.
class GgufMetadata {
 public:
  GgufMetadata() = default;
  explicit GgufMetadata(std::string path) : path_(std::move(path)) {}

  bool contains(std::string_view key) const { return values_.contains(key); }
  std::optional<std::int64_t> integer(std::string_view key) const;
  std::optional<double> number(std::string_view key) const;  // integers count too
  std::optional<bool> flag(std::string_view key) const;
  /// Valid UTF-8.
  std::optional<std::string_view> text(std::string_view key) const;
  /// Empty when the key is missing. Not checked to be UTF-8.
  std::vector<std::string_view> texts(std::string_view key) const;
  std::vector<std::int64_t> integers(std::string_view key) const;
  std::vector<double> numbers(std::string_view key) const;

  std::int64_t require_integer(std::string_view key) const;
  std::string_view require_text(std::string_view key) const;

  const std::map<std::string, GgufValue, std::less<>>& values() const { return values_; }
  const std::string& path() const { return path_; }

 private:
  friend class GgufParser;
  const GgufValue* find(std::string_view key, bool array) const;
  [[noreturn]] void wrong_type(std::string_view key, const char* wanted) const;

  std::string path_;
  std::map<std::string, GgufValue, std::less<>> values_;
};

/// One tensor of the table.
struct GgufTensor {
  std::string name;
  std::uint32_t type = 0;            // ggml's number; gguf_blocks.h names it
  std::vector<std::int64_t> dims;    // as in the file: the contiguous dimension first
  std::uint64_t offset = 0;          // from the start of the data
  std::span<const std::byte> bytes;  // empty for a type whose size Bittern does not know
};

/// A parsed file. Everything points into the mapping that `bytes.keep` holds.
struct GgufFile {
  FileBytes bytes;
  std::uint32_t version = 0;
  std::uint64_t alignment = 32;
  GgufMetadata metadata;
  std::vector<GgufTensor> tensors;  // in the order of the file

  const GgufTensor* find(std::string_view tensor) const;
};

/// True when the bytes begin as a GGUF file does.
bool is_gguf(std::span<const std::byte> bytes);

/// Parses and checks a file. Error(invalid_checkpoint) for damage; Error(unsupported) for version 1, big-endian files
/// and nested arrays.
GgufFile read_gguf(FileBytes file);

}  // namespace bittern
