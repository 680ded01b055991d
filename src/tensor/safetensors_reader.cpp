// Parsing and checking of one safetensors file. Order of the checks: the length of the header, its JSON, each tensor by
// itself, then all of them against the data (they must tile it exactly: no overlap, no gap, nothing left over).
#include <bittern/error.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "tensor/header_json.h"
#include "tensor/quote_name.h"
#include "tensor/safetensors.h"

namespace bittern {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors data is little-endian and used in place");

constexpr std::uint64_t kLengthBytes = 8;
constexpr std::uint64_t kMaxHeader = 100'000'000;  // the format's own limit
constexpr std::size_t kMaxRank = 64;
constexpr std::string_view kLfsPointer = "version https://git-lfs";

[[noreturn]] void refuse(const std::string& path, const std::string& reason) {
  throw Error(ErrorCode::invalid_checkpoint, path + ": " + reason,
              "the file is damaged or was not downloaded completely");
}

[[noreturn]] void refuse_tensor(const std::string& path, const std::string& name, const std::string& reason) {
  refuse(path, "tensor " + quote_name(name) + ": " + reason);
}

std::string_view header_text(const FileBytes& file) {
  if (file.text().starts_with(kLfsPointer)) {
    throw Error(ErrorCode::invalid_checkpoint, file.path + ": is a Git LFS pointer, not the weights",
                "run: git lfs pull");
  }
  if (file.bytes.size() < kLengthBytes) {
    refuse(file.path, "has " + std::to_string(file.bytes.size()) + " bytes, too few for a safetensors header");
  }
  std::uint64_t length = 0;
  std::memcpy(&length, file.bytes.data(), kLengthBytes);
  if (length > kMaxHeader) {
    refuse(file.path,
           "claims a header of " + std::to_string(length) + " bytes; the limit is " + std::to_string(kMaxHeader));
  }
  if (length > file.bytes.size() - kLengthBytes) {
    refuse(file.path, "claims a header of " + std::to_string(length) + " bytes, but only " +
                          std::to_string(file.bytes.size() - kLengthBytes) + " follow");
  }
  return file.text().substr(kLengthBytes, length);
}

// A non-negative JSON integer that fits std::int64_t.
std::int64_t read_count(const Json& value, const std::string& path, const std::string& name, const char* what) {
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > INT64_MAX) {
    refuse_tensor(path, name,
                  std::string(what) + " must be non-negative integers below 2^63, found " + describe_json(value));
  }
  return value.get<std::int64_t>();
}

const Json& require_key(const Json& object, const char* key, const std::string& path, const std::string& name) {
  const auto found = object.find(key);
  if (found == object.end()) refuse_tensor(path, name, std::string("has no '") + key + "'");
  return *found;
}

std::vector<std::int64_t> read_shape(const Json& value, const std::string& path, const std::string& name) {
  if (!value.is_array()) refuse_tensor(path, name, "shape must be an array, found " + describe_json(value));
  if (value.size() > kMaxRank) refuse_tensor(path, name, "has " + std::to_string(value.size()) + " dimensions");
  std::vector<std::int64_t> shape;
  for (const Json& dimension : value) shape.push_back(read_count(dimension, path, name, "shape"));
  return shape;
}

// Elements of the shape times `size`, or a refusal when that overflows.
std::int64_t checked_bytes(const SafetensorsEntry& entry, std::size_t size, const std::string& path) {
  std::int64_t bytes = static_cast<std::int64_t>(size);
  bool zero = false;
  for (std::int64_t dimension : entry.shape) {
    zero = zero || dimension == 0;
    if (dimension != 0 && __builtin_mul_overflow(bytes, dimension, &bytes)) {
      refuse_tensor(path, entry.name, "its shape has more elements than any file can hold");
    }
  }
  return zero ? 0 : bytes;
}

void place_data(SafetensorsEntry& entry, const Json& value, std::span<const std::byte> data, const std::string& path) {
  if (!value.is_array() || value.size() != 2) {
    refuse_tensor(path, entry.name, "data_offsets must be two numbers, found " + describe_json(value));
  }
  const std::int64_t begin = read_count(value[0], path, entry.name, "data_offsets");
  const std::int64_t end = read_count(value[1], path, entry.name, "data_offsets");
  if (begin > end || static_cast<std::uint64_t>(end) > data.size()) {
    refuse_tensor(path, entry.name,
                  "its bytes " + std::to_string(begin) + ".." + std::to_string(end) + " lie outside the " +
                      std::to_string(data.size()) + " bytes of data in the file");
  }
  entry.data = data.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
  entry.bytes = entry.data.size();
}

SafetensorsEntry read_entry(const std::string& name, const Json& value, std::span<const std::byte> data,
                            const std::string& path) {
  if (!value.is_object()) refuse_tensor(path, name, "expected an object, found " + describe_json(value));
  SafetensorsEntry entry;
  entry.name = name;
  entry.file = path;
  const Json& dtype = require_key(value, "dtype", path, name);
  if (!dtype.is_string()) refuse_tensor(path, name, "dtype must be a string, found " + describe_json(dtype));
  entry.dtype_name = dtype.get<std::string>();
  entry.dtype = dtype_from_safetensors(entry.dtype_name);
  entry.shape = read_shape(require_key(value, "shape", path, name), path, name);
  place_data(entry, require_key(value, "data_offsets", path, name), data, path);
  // The size of an element type we do not have is unknown; overflow of the shape is refused for all.
  const std::int64_t bytes = checked_bytes(entry, entry.dtype ? dtype_size(*entry.dtype) : 1, path);
  if (entry.dtype && static_cast<std::uint64_t>(bytes) != entry.bytes) {
    refuse_tensor(path, name,
                  "has " + std::to_string(entry.bytes) + " bytes, but its shape and type " +
                      quote_name(entry.dtype_name) + " need " + std::to_string(bytes));
  }
  return entry;
}

void check_tiling(const SafetensorsFile& file, std::span<const std::byte> data) {
  const std::byte* expected = data.data();
  const std::string* previous = nullptr;
  for (const SafetensorsEntry& entry : file.entries) {
    if (entry.data.data() < expected) refuse_tensor(file.bytes.path, entry.name, "overlaps " + quote_name(*previous));
    if (entry.data.data() > expected) {
      refuse_tensor(file.bytes.path, entry.name,
                    "starts after a gap of " + std::to_string(entry.data.data() - expected) + " bytes");
    }
    expected = entry.data.data() + entry.data.size();
    previous = &entry.name;
  }
  const std::byte* end = data.data() + data.size();
  if (expected != end) refuse(file.bytes.path, std::to_string(end - expected) + " bytes follow the last tensor");
}

std::map<std::string, std::string> read_metadata(const Json& value, const std::string& path) {
  if (!value.is_object()) refuse(path, "__metadata__ must be an object, found " + describe_json(value));
  std::map<std::string, std::string> metadata;
  for (const auto& [key, text] : value.items()) {
    if (!text.is_string())
      refuse(path, "__metadata__: " + quote_name(key) + " must be a string, found " + describe_json(text));
    metadata[key] = text.get<std::string>();
  }
  return metadata;
}

}  // namespace

SafetensorsFile read_safetensors(FileBytes bytes) {
  SafetensorsFile file;
  file.bytes = std::move(bytes);
  const std::string& path = file.bytes.path;
  const std::string_view text = header_text(file.bytes);
  const std::span<const std::byte> data = file.bytes.bytes.subspan(kLengthBytes + text.size());
  const Json header = parse_header_json(text, path + ": header");
  for (const auto& [name, value] : header.items()) {
    if (name == "__metadata__") {
      file.metadata = read_metadata(value, path);
    } else {
      file.entries.push_back(read_entry(name, value, data, path));
    }
  }
  // Empty tensors share their place with the next one and must come first to pass the tiling check.
  std::stable_sort(file.entries.begin(), file.entries.end(), [](const auto& a, const auto& b) {
    return std::pair(a.data.data(), a.data.size()) < std::pair(b.data.data(), b.data.size());
  });
  check_tiling(file, data);
  return file;
}

}  // namespace bittern
