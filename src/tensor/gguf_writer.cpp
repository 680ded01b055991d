// Bytes of the header, and padding between tensors.
#include "tensor/gguf_writer.h"

#include <bittern/error.h>

#include <algorithm>

#include "tensor/gguf.h"
#include "tensor/quote_name.h"

namespace bittern {
namespace {

constexpr std::uint64_t kAlignment = 32;
constexpr std::uint32_t kVersion = 3;

template <class T>
void put(std::string& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

void put_text(std::string& bytes, std::string_view text) {
  put<std::uint64_t>(bytes, text.size());
  bytes += text;
}

constexpr std::uint32_t number_of(GgufValueType type) { return static_cast<std::uint32_t>(type); }

std::uint64_t padded(std::uint64_t size) { return (size + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

void GgufKeyValues::key(std::string_view key, std::uint32_t type) {
  if (std::find(keys_.begin(), keys_.end(), key) != keys_.end()) {
    throw Error(ErrorCode::internal, "GGUF metadata " + quote_name(key) + " is added twice");
  }
  keys_.emplace_back(key);
  put_text(bytes_, key);
  put(bytes_, type);
}

void GgufKeyValues::array(std::string_view name, std::uint32_t type, std::uint64_t count) {
  key(name, number_of(GgufValueType::array));
  put(bytes_, type);
  put(bytes_, count);
}

void GgufKeyValues::text(std::string_view name, std::string_view value) {
  key(name, number_of(GgufValueType::text));
  put_text(bytes_, value);
}

void GgufKeyValues::integer(std::string_view name, std::uint32_t value) {
  key(name, number_of(GgufValueType::u32));
  put(bytes_, value);
}

void GgufKeyValues::number(std::string_view name, float value) {
  key(name, number_of(GgufValueType::f32));
  put(bytes_, value);
}

void GgufKeyValues::flag(std::string_view name, bool value) {
  key(name, number_of(GgufValueType::boolean));
  put(bytes_, static_cast<std::uint8_t>(value));
}

void GgufKeyValues::texts(std::string_view name, std::span<const std::string> values) {
  array(name, number_of(GgufValueType::text), values.size());
  for (const std::string& value : values) put_text(bytes_, value);
}

void GgufKeyValues::integers(std::string_view name, std::span<const std::int32_t> values) {
  array(name, number_of(GgufValueType::i32), values.size());
  for (const std::int32_t value : values) put(bytes_, value);
}

void GgufKeyValues::numbers(std::string_view name, std::span<const float> values) {
  array(name, number_of(GgufValueType::f32), values.size());
  for (const float value : values) put(bytes_, value);
}

std::int64_t GgufTensorSpec::bytes() const {
  std::int64_t values = 1;
  for (const std::int64_t dim : dims) values *= dim;
  return gguf_bytes(type, values);
}

GgufWriter::GgufWriter(const std::filesystem::path& path, const GgufKeyValues& metadata,
                       std::vector<GgufTensorSpec> tensors)
    : tensors_(std::move(tensors)), file_(path) {
  std::string header = "GGUF";
  put(header, kVersion);
  put<std::uint64_t>(header, tensors_.size());
  put(header, metadata.count());
  header += metadata.bytes();
  std::uint64_t offset = 0;
  for (const GgufTensorSpec& tensor : tensors_) {
    put_text(header, tensor.name);
    put(header, static_cast<std::uint32_t>(tensor.dims.size()));
    for (const std::int64_t dim : tensor.dims) put(header, dim);
    put(header, static_cast<std::uint32_t>(tensor.type));
    put(header, offset);
    offset += padded(static_cast<std::uint64_t>(tensor.bytes()));
  }
  file_.write(header);
  pad();
}

void GgufWriter::pad() { file_.write(std::string(padded(file_.position()) - file_.position(), '\0')); }

void GgufWriter::append(std::string_view name, std::span<const std::byte> data) {
  if (next_ >= tensors_.size() || tensors_[next_].name != name) {
    throw Error(ErrorCode::internal, "GGUF tensor " + quote_name(name) + " is written out of turn");
  }
  in_next_ += static_cast<std::int64_t>(data.size());
  const std::int64_t size = tensors_[next_].bytes();
  if (in_next_ > size) throw Error(ErrorCode::internal, "GGUF tensor " + quote_name(name) + " gets too many bytes");
  file_.write(data);
  if (in_next_ < size) return;
  pad();
  ++next_;
  in_next_ = 0;
}

void GgufWriter::finish() {
  if (next_ != tensors_.size()) {
    throw Error(ErrorCode::internal, "GGUF tensor " + quote_name(tensors_[next_].name) + " was not written");
  }
  file_.commit();
}

}  // namespace bittern
