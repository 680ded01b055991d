// Parsing one GGUF file: a cursor that cannot leave the file, then checks of all tensors against the data.
#include "tensor/gguf.h"

#include <bittern/error.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <set>

#include "base/strings.h"
#include "tensor/gguf_blocks.h"
#include "tensor/quote_name.h"

namespace bittern {

static_assert(std::endian::native == std::endian::little, "GGUF data is little-endian and used in place");

namespace {

constexpr std::string_view kMagic = "GGUF";
constexpr std::uint64_t kMinTensorInfo = 8 + 4 + 4 + 8;  // length of the name, rank, type, offset
constexpr std::uint64_t kMinKeyValue = 8 + 4 + 1;        // length of the key, type, one byte
constexpr std::uint32_t kMaxRank = 4;
constexpr std::uint64_t kMaxAlignment = 1 << 20;
constexpr std::uint64_t kMaxName = 1024;

[[noreturn]] void refuse(const std::string& path, const std::string& reason) {
  throw Error(ErrorCode::invalid_checkpoint, path + ": " + reason,
              "the file is damaged or was not downloaded completely");
}

// Bytes of one element, or 0 for texts and arrays.
std::uint64_t scalar_bytes(GgufValueType type) {
  switch (type) {
    case GgufValueType::u8:
    case GgufValueType::i8:
    case GgufValueType::boolean: return 1;
    case GgufValueType::u16:
    case GgufValueType::i16: return 2;
    case GgufValueType::u32:
    case GgufValueType::i32:
    case GgufValueType::f32: return 4;
    case GgufValueType::u64:
    case GgufValueType::i64:
    case GgufValueType::f64: return 8;
    case GgufValueType::text:
    case GgufValueType::array: return 0;
  }
  return 0;
}

template <class T>
T load(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  return value;
}

std::optional<std::int64_t> as_integer(GgufValueType type, const std::byte* at) {
  switch (type) {
    case GgufValueType::u8: return load<std::uint8_t>(at);
    case GgufValueType::i8: return load<std::int8_t>(at);
    case GgufValueType::u16: return load<std::uint16_t>(at);
    case GgufValueType::i16: return load<std::int16_t>(at);
    case GgufValueType::u32: return load<std::uint32_t>(at);
    case GgufValueType::i32: return load<std::int32_t>(at);
    case GgufValueType::i64: return load<std::int64_t>(at);
    case GgufValueType::u64: {
      const auto value = load<std::uint64_t>(at);
      return value > INT64_MAX ? std::nullopt : std::optional(static_cast<std::int64_t>(value));
    }
    default: return std::nullopt;
  }
}

std::optional<double> as_number(GgufValueType type, const std::byte* at) {
  if (type == GgufValueType::f32) return load<float>(at);
  if (type == GgufValueType::f64) return load<double>(at);
  const auto integer = as_integer(type, at);
  return integer ? std::optional(static_cast<double>(*integer)) : std::nullopt;
}

}  // namespace

// --- metadata ---

const GgufValue* GgufMetadata::find(std::string_view key, bool array) const {
  const auto found = values_.find(key);
  if (found == values_.end()) return nullptr;
  if (found->second.is_array != array) wrong_type(key, array ? "an array" : "a single value");
  return &found->second;
}

void GgufMetadata::wrong_type(std::string_view key, const char* wanted) const {
  throw Error(ErrorCode::invalid_checkpoint, path_ + ": metadata " + quote_name(key) + " must be " + wanted);
}

std::optional<std::int64_t> GgufMetadata::integer(std::string_view key) const {
  const GgufValue* value = find(key, false);
  if (!value) return std::nullopt;
  const auto integer = as_integer(value->type, value->bytes.data());
  if (!integer) wrong_type(key, "an integer");
  return integer;
}

std::optional<double> GgufMetadata::number(std::string_view key) const {
  const GgufValue* value = find(key, false);
  if (!value) return std::nullopt;
  const auto number = as_number(value->type, value->bytes.data());
  if (!number) wrong_type(key, "a number");
  return number;
}

std::optional<bool> GgufMetadata::flag(std::string_view key) const {
  const GgufValue* value = find(key, false);
  if (!value) return std::nullopt;
  if (value->type != GgufValueType::boolean) wrong_type(key, "true or false");
  return value->bytes[0] != std::byte{0};
}

std::optional<std::string_view> GgufMetadata::text(std::string_view key) const {
  const GgufValue* value = find(key, false);
  if (!value) return std::nullopt;
  if (value->type != GgufValueType::text) wrong_type(key, "a text");
  const std::string_view text(reinterpret_cast<const char*>(value->bytes.data()) + 8, value->bytes.size() - 8);
  if (!utf8_is_valid(text)) wrong_type(key, "valid UTF-8");
  return text;
}

std::vector<std::string_view> GgufMetadata::texts(std::string_view key) const {
  const GgufValue* value = find(key, true);
  if (!value) return {};
  if (value->type != GgufValueType::text) wrong_type(key, "an array of texts");
  std::vector<std::string_view> texts;
  texts.reserve(value->count);
  const std::byte* at = value->bytes.data();
  for (std::uint64_t i = 0; i < value->count; ++i) {
    const auto length = load<std::uint64_t>(at);  // checked when the file was parsed
    texts.emplace_back(reinterpret_cast<const char*>(at) + 8, length);
    at += 8 + length;
  }
  return texts;
}

std::vector<std::int64_t> GgufMetadata::integers(std::string_view key) const {
  const GgufValue* value = find(key, true);
  if (!value) return {};
  std::vector<std::int64_t> integers;
  const std::uint64_t size = scalar_bytes(value->type);
  for (std::uint64_t i = 0; i < value->count; ++i) {
    const auto integer = as_integer(value->type, value->bytes.data() + i * size);
    if (!integer) wrong_type(key, "an array of integers");
    integers.push_back(*integer);
  }
  return integers;
}

std::vector<double> GgufMetadata::numbers(std::string_view key) const {
  const GgufValue* value = find(key, true);
  if (!value) return {};
  std::vector<double> numbers;
  const std::uint64_t size = scalar_bytes(value->type);
  for (std::uint64_t i = 0; i < value->count; ++i) {
    const auto number = as_number(value->type, value->bytes.data() + i * size);
    if (!number) wrong_type(key, "an array of numbers");
    numbers.push_back(*number);
  }
  return numbers;
}

std::int64_t GgufMetadata::require_integer(std::string_view key) const {
  if (const auto value = integer(key)) return *value;
  throw Error(ErrorCode::invalid_checkpoint, path_ + ": metadata " + quote_name(key) + " is missing");
}

std::string_view GgufMetadata::require_text(std::string_view key) const {
  if (const auto value = text(key)) return *value;
  throw Error(ErrorCode::invalid_checkpoint, path_ + ": metadata " + quote_name(key) + " is missing");
}

// --- the file ---

class GgufParser {
 public:
  explicit GgufParser(FileBytes bytes) {
    file_.bytes = std::move(bytes);
    file_.metadata = GgufMetadata(file_.bytes.path);
  }

  GgufFile parse() {
    read_header();
    for (std::uint64_t i = 0; i < values_; ++i) read_key_value();
    read_alignment();
    for (std::uint64_t i = 0; i < tensors_; ++i) read_tensor();
    if (!file_.tensors.empty()) place_data();
    return std::move(file_);
  }

 private:
  const std::string& path() const { return file_.bytes.path; }
  std::uint64_t left() const { return file_.bytes.bytes.size() - at_; }

  std::span<const std::byte> take(std::uint64_t size, const std::string& what) {
    if (size > left()) {
      refuse(path(), what + " needs " + std::to_string(size) + " bytes at " + std::to_string(at_) + ", but only " +
                         std::to_string(left()) + " follow");
    }
    const auto bytes = file_.bytes.bytes.subspan(at_, size);
    at_ += size;
    return bytes;
  }

  template <class T>
  T number(const std::string& what) {
    return load<T>(take(sizeof(T), what).data());
  }

  std::string name(const std::string& what) {
    const auto length = number<std::uint64_t>(what);
    if (length == 0 || length > kMaxName) {
      refuse(path(), what + " has a name of " + std::to_string(length) + " bytes");
    }
    const auto bytes = take(length, what);
    std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    if (!utf8_is_valid(text)) refuse(path(), what + ": the name " + quote_name(text) + " is not valid UTF-8");
    return text;
  }

  void read_header() {
    if (!is_gguf(file_.bytes.bytes)) refuse(path(), "does not begin with GGUF");
    at_ = kMagic.size();
    file_.version = number<std::uint32_t>("the version");
    if (file_.version != 2 && file_.version != 3) {
      const bool swapped = file_.version != 0 && (file_.version & 0xffffU) == 0;
      throw Error(ErrorCode::unsupported,
                  path() + ": " +
                      (swapped ? std::string("is a big-endian GGUF file")
                               : "has GGUF version " + std::to_string(file_.version)),
                  "Bittern reads little-endian GGUF of versions 2 and 3; convert the model again");
    }
    tensors_ = number<std::uint64_t>("the number of tensors");
    values_ = number<std::uint64_t>("the number of metadata values");
    if (values_ > left() / kMinKeyValue) refuse(path(), "claims " + std::to_string(values_) + " metadata values");
    if (tensors_ > left() / kMinTensorInfo) refuse(path(), "claims " + std::to_string(tensors_) + " tensors");
  }

  GgufValueType value_type(const std::string& what) {
    const auto type = number<std::uint32_t>(what);
    if (type > static_cast<std::uint32_t>(GgufValueType::f64)) {
      refuse(path(), what + " has the unknown type " + std::to_string(type));
    }
    return static_cast<GgufValueType>(type);
  }

  // Steps over `count` texts.
  void take_texts(std::uint64_t count, const std::string& what) {
    if (count > left() / 8) refuse(path(), what + " claims " + std::to_string(count) + " texts");
    for (std::uint64_t i = 0; i < count; ++i) take(number<std::uint64_t>(what), what);
  }

  void read_key_value() {
    const std::string key = name("metadata value " + std::to_string(file_.metadata.values_.size()));
    const std::string what = "metadata " + quote_name(key);
    GgufValue value;
    value.type = value_type(what);
    if (value.type == GgufValueType::array) {
      value.is_array = true;
      value.type = value_type(what);
      value.count = number<std::uint64_t>(what);
      if (value.type == GgufValueType::array) {
        throw Error(ErrorCode::unsupported,
                    path() + ": " + what + " is an array of arrays, which Bittern does not read");
      }
    }
    const std::uint64_t start = at_;
    if (value.type == GgufValueType::text) {
      take_texts(value.count, what);
    } else {
      const std::uint64_t size = scalar_bytes(value.type);
      if (value.count > left() / size) refuse(path(), what + " claims " + std::to_string(value.count) + " elements");
      take(value.count * size, what);
    }
    value.bytes = file_.bytes.bytes.subspan(start, at_ - start);
    if (!file_.metadata.values_.try_emplace(key, value).second) refuse(path(), what + " appears twice");
  }

  void read_alignment() {
    const auto alignment = file_.metadata.integer("general.alignment");
    if (!alignment) return;
    if (*alignment <= 0 || *alignment > static_cast<std::int64_t>(kMaxAlignment) ||
        (*alignment & (*alignment - 1)) != 0) {
      refuse(path(), "general.alignment is " + std::to_string(*alignment) + ", not a power of two up to " +
                         std::to_string(kMaxAlignment));
    }
    file_.alignment = static_cast<std::uint64_t>(*alignment);
  }

  void read_tensor() {
    GgufTensor tensor;
    tensor.name = name("tensor " + std::to_string(file_.tensors.size()));
    const std::string what = "tensor " + quote_name(tensor.name);
    if (!names_.insert(tensor.name).second) refuse(path(), what + " appears twice");
    const auto rank = number<std::uint32_t>(what);
    if (rank == 0 || rank > kMaxRank) refuse(path(), what + " has " + std::to_string(rank) + " dimensions");
    for (std::uint32_t i = 0; i < rank; ++i) {
      tensor.dims.push_back(number<std::int64_t>(what));
      if (tensor.dims.back() <= 0) refuse(path(), what + " has a dimension of " + std::to_string(tensor.dims.back()));
    }
    tensor.type = number<std::uint32_t>(what);
    tensor.offset = number<std::uint64_t>(what);
    if (tensor.offset % file_.alignment != 0) {
      refuse(path(), what + " starts at " + std::to_string(tensor.offset) +
                         ", which is not a multiple of the alignment " + std::to_string(file_.alignment));
    }
    file_.tensors.push_back(std::move(tensor));
  }

  std::uint64_t size_of(const GgufTensor& tensor) const {
    const std::string what = "tensor " + quote_name(tensor.name);
    std::int64_t values = 1;
    for (const std::int64_t dim : tensor.dims) {
      if (__builtin_mul_overflow(values, dim, &values))
        refuse(path(), what + " has more elements than any file can hold");
    }
    const GgufTypeInfo* info = gguf_type_info(tensor.type);
    if (!info || info->block_bytes == 0) return 0;
    if (tensor.dims[0] % info->block_values != 0) {
      refuse(path(), what + " has rows of " + std::to_string(tensor.dims[0]) +
                         " values, which are not whole blocks of " + std::to_string(info->block_values) + " (" +
                         std::string(info->name) + ")");
    }
    std::int64_t bytes = values / info->block_values;
    if (__builtin_mul_overflow(bytes, info->block_bytes, &bytes)) refuse(path(), what + " is larger than any file");
    return static_cast<std::uint64_t>(bytes);
  }

  void place_data() {
    const std::uint64_t start = (at_ + file_.alignment - 1) / file_.alignment * file_.alignment;
    const std::uint64_t size = start <= file_.bytes.bytes.size() ? file_.bytes.bytes.size() - start : 0;
    for (GgufTensor& tensor : file_.tensors) {
      const std::uint64_t bytes = size_of(tensor);
      if (tensor.offset > size || bytes > size - tensor.offset) {
        refuse(path(), "tensor " + quote_name(tensor.name) + " lies at " + std::to_string(tensor.offset) + " with " +
                           std::to_string(bytes) + " bytes, outside the " + std::to_string(size) + " bytes of data");
      }
      tensor.bytes = file_.bytes.bytes.subspan(start + tensor.offset, bytes);
    }
    check_overlap();
  }

  void check_overlap() const {
    std::vector<const GgufTensor*> order;
    for (const GgufTensor& tensor : file_.tensors) order.push_back(&tensor);
    std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) { return a->offset < b->offset; });
    for (std::size_t i = 1; i < order.size(); ++i) {
      // Equal places are refused too, also for types whose size is unknown.
      const bool apart = order[i - 1]->offset + order[i - 1]->bytes.size() <= order[i]->offset &&
                         order[i - 1]->offset != order[i]->offset;
      if (!apart) {
        refuse(path(), "tensor " + quote_name(order[i]->name) + " overlaps " + quote_name(order[i - 1]->name));
      }
    }
  }

  GgufFile file_;
  std::uint64_t at_ = 0;
  std::uint64_t tensors_ = 0;
  std::uint64_t values_ = 0;
  std::set<std::string> names_;
};

const GgufTensor* GgufFile::find(std::string_view tensor) const {
  const auto found = std::find_if(tensors.begin(), tensors.end(), [&](const auto& t) { return t.name == tensor; });
  return found == tensors.end() ? nullptr : &*found;
}

bool is_gguf(std::span<const std::byte> bytes) {
  return bytes.size() >= kMagic.size() && std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) == 0;
}

GgufFile read_gguf(FileBytes file) { return GgufParser(std::move(file)).parse(); }

}  // namespace bittern
