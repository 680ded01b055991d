// The guarded JSON parser and the error texts of the typed getters.
#include "base/json.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "base/mmap_file.h"
#include "base/strings.h"

namespace bittern {
namespace {

// "line 3, column 7" of a byte; both count from 1, columns in bytes.
std::string position(std::string_view bytes, size_t at) {
  at = std::min(at, bytes.size());
  const std::string_view before = bytes.substr(0, at);
  const auto line = std::count(before.begin(), before.end(), '\n') + 1;
  const size_t start = before.rfind('\n') == std::string_view::npos ? 0 : before.rfind('\n') + 1;
  return fmt::format("line {}, column {}", line, at - start + 1);
}

// What a document is called in errors, its bytes and the code of its errors.
struct Document {
  std::string_view what;
  std::string_view bytes;
  ErrorCode code;
};

[[noreturn]] void throw_parse_error(const Document& document, size_t at, std::string_view reason) {
  const auto& [what, bytes, code] = document;
  throw Error(code, fmt::format("{}: not valid JSON: {}: {}", what, position(bytes, at), utf8_sanitize(reason)));
}

// Brackets are counted before parsing, so that no recursion of the library (copy, print, compare) can go deep.
void check_depth(const Document& document, int max_depth) {
  const std::string_view bytes = document.bytes;
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < bytes.size(); ++i) {
    const char c = bytes[i];
    if (in_string) {
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        in_string = false;
      }
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > max_depth) {
        throw_parse_error(document, i, fmt::format("nested more than {} levels deep", max_depth));
      }
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
}

// nlohmann's text without its id and position, which we print in our own way.
std::string reason_of(const Json::parse_error& error) {
  const std::string_view text = error.what();
  const size_t column = text.find("column ");
  const size_t colon = text.find(": ", column == std::string_view::npos ? 0 : column);
  return std::string(colon == std::string_view::npos ? text : text.substr(colon + 2));
}

// Fails on the second occurrence of a key within one object.
class DuplicateKeys {
 public:
  explicit DuplicateKeys(const Document& document) : document_(document) {}

  bool operator()(int /*depth*/, Json::parse_event_t event, const Json& parsed) {
    if (event == Json::parse_event_t::object_start) open_.emplace_back();
    if (event == Json::parse_event_t::object_end) open_.pop_back();
    if (event == Json::parse_event_t::key && !open_.back().insert(parsed.get_ref<const std::string&>()).second) {
      throw Error(document_.code, fmt::format("{}: the key '{}' occurs twice in one object", document_.what,
                                              utf8_sanitize(parsed.get_ref<const std::string&>())));
    }
    return true;
  }

 private:
  Document document_;
  std::vector<std::set<std::string>> open_;
};

const char* type_in_words(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null: return "null";
    case Json::value_t::object: return "an object";
    case Json::value_t::array: return "a list";
    case Json::value_t::string: return "a string";
    case Json::value_t::boolean: return "a boolean";
    case Json::value_t::number_integer:
    case Json::value_t::number_unsigned: return "an integer";
    case Json::value_t::number_float: return "a number";
    default: return "a binary value";
  }
}

[[noreturn]] void throw_range(std::string_view name, const Json& value, std::string_view low, std::string_view high) {
  throw Error(ErrorCode::invalid_argument,
              fmt::format("{} must be between {} and {}, but it is {}", name, low, high, value.dump()));
}

// The integer that a JSON number stands for exactly; 2^53 bounds the floats that can be trusted to be one.
bool integral_float(const Json& value) {
  if (!value.is_number_float()) return false;
  const double number = value.get<double>();
  return std::floor(number) == number && std::abs(number) <= 0x1p53;
}

}  // namespace

Json parse_json(std::string_view bytes, std::string_view what, const JsonOptions& options) {
  const Document document{what, bytes, options.code};
  check_depth(document, options.max_depth);
  try {
    if (!options.refuse_duplicate_keys) return Json::parse(bytes);
    return Json::parse(bytes,
                       [keys = DuplicateKeys(document)](int depth, Json::parse_event_t event, Json& parsed) mutable {
                         return keys(depth, event, parsed);
                       });
  } catch (const Json::parse_error& error) {
    throw_parse_error(document, error.byte > 0 ? error.byte - 1 : 0, reason_of(error));
  } catch (const Json::exception& error) {  // e.g. a number out of range
    throw Error(options.code, fmt::format("{}: not valid JSON: {}", what, utf8_sanitize(error.what())));
  }
}

Json parse_json(std::span<const std::byte> bytes, std::string_view what, const JsonOptions& options) {
  return parse_json(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()), what, options);
}

Json read_json_file(const std::filesystem::path& path, const JsonOptions& options) {
  const MmapFile file(path);
  return parse_json(file.text(), path.string(), options);
}

std::string describe_json(const Json& value) {
  if (value.is_null()) return "null";
  const std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  return text.size() > 60 ? type_in_words(value) : fmt::format("{} ({})", type_in_words(value), text);
}

namespace detail {

std::string json_name(std::string_view what, std::string_view key) {
  return what.empty() ? fmt::format("'{}'", key) : fmt::format("{}: '{}'", what, key);
}

void throw_json_type(std::string_view name, std::string_view wanted, const Json& got) {
  throw Error(ErrorCode::invalid_argument,
              fmt::format("{} must be {}, but it is {}", name, wanted, describe_json(got)));
}

void throw_json_missing(std::string_view name, std::string_view what) {
  throw Error(ErrorCode::invalid_argument, fmt::format("{} is missing", json_name(what, name)));
}

void throw_json_not_object(std::string_view name, std::string_view what, const Json& got) {
  throw Error(ErrorCode::invalid_argument,
              fmt::format("{}an object with the key '{}' is needed, but it is {}",
                          what.empty() ? "" : fmt::format("{}: ", what), name, describe_json(got)));
}

int64_t json_integer(const Json& value, std::string_view name, int64_t low, int64_t high) {
  int64_t number = 0;
  if (value.is_number_unsigned()) {
    const auto large = value.get<uint64_t>();
    if (large > static_cast<uint64_t>(high)) throw_range(name, value, std::to_string(low), std::to_string(high));
    number = static_cast<int64_t>(large);
  } else if (value.is_number_integer() || integral_float(value)) {
    number = value.get<int64_t>();
  } else {
    throw_json_type(name, "an integer", value);
  }
  if (number < low || number > high) throw_range(name, value, std::to_string(low), std::to_string(high));
  return number;
}

uint64_t json_unsigned(const Json& value, std::string_view name, uint64_t high) {
  if (!value.is_number_integer() && !integral_float(value)) throw_json_type(name, "an integer", value);
  const bool negative =
      value.is_number_float() ? value.get<double>() < 0 : !value.is_number_unsigned() && value.get<int64_t>() < 0;
  if (negative || value.get<uint64_t>() > high) throw_range(name, value, "0", std::to_string(high));
  return value.get<uint64_t>();
}

double json_number(const Json& value, std::string_view name) {
  if (!value.is_number()) throw_json_type(name, "a number", value);
  return value.get<double>();
}

bool json_bool(const Json& value, std::string_view name) {
  if (!value.is_boolean()) throw_json_type(name, "true or false", value);
  return value.get<bool>();
}

const std::string& json_string(const Json& value, std::string_view name) {
  if (!value.is_string()) throw_json_type(name, "a string", value);
  return value.get_ref<const std::string&>();
}

}  // namespace detail
}  // namespace bittern
