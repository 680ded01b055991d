// JSON: nlohmann-json behind a parser that is safe on hostile input, and typed getters whose errors name key and type.
// Every JSON that comes from outside (config files, checkpoint headers, HTTP bodies) enters through parse_json.
#pragma once

#include <bittern/error.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace bittern {

using Json = nlohmann::json;                 // keys in alphabetical order, found in logarithmic time
using OrderedJson = nlohmann::ordered_json;  // keys in the order of insertion: for what we print

struct JsonOptions {
  int max_depth = 128;                           // copying and printing recurse, so nesting is bounded
  bool refuse_duplicate_keys = false;            // otherwise the last one wins, as in Python
  ErrorCode code = ErrorCode::invalid_argument;  // of the errors of parse_json
};

/// Parses UTF-8 JSON. Throws Error(options.code) "<what>: not valid JSON: line 3, column 7: <reason>";
/// `what` names the document.
Json parse_json(std::string_view bytes, std::string_view what, const JsonOptions& options = {});
Json parse_json(std::span<const std::byte> bytes, std::string_view what, const JsonOptions& options = {});
/// Reads and parses a file; the path is its name in errors.
Json read_json_file(const std::filesystem::path& path, const JsonOptions& options = {});

/// The type of a value in words with its article, and the value when it is short: "a string ("abc")".
std::string describe_json(const Json& value);

namespace detail {

[[noreturn]] void throw_json_type(std::string_view name, std::string_view wanted, const Json& got);
[[noreturn]] void throw_json_missing(std::string_view name, std::string_view what);
[[noreturn]] void throw_json_not_object(std::string_view name, std::string_view what, const Json& got);
std::string json_name(std::string_view what, std::string_view key);
int64_t json_integer(const Json& value, std::string_view name, int64_t low, int64_t high);
uint64_t json_unsigned(const Json& value, std::string_view name, uint64_t high);
double json_number(const Json& value, std::string_view name);
bool json_bool(const Json& value, std::string_view name);
const std::string& json_string(const Json& value, std::string_view name);

template <class T>
struct IsVector : std::false_type {};
template <class T>
struct IsVector<std::vector<T>> : std::true_type {};

}  // namespace detail

/// The value as T: bool, an integer type (range checked; 3.0 counts as 3), float, double, std::string, Json, or a
/// vector of these. Throws Error(invalid_argument) naming `name`, the wanted type and what it is instead.
template <class T>
T json_as(const Json& value, std::string_view name) {
  if constexpr (std::is_same_v<T, Json>) {
    return value;
  } else if constexpr (std::is_same_v<T, bool>) {
    return detail::json_bool(value, name);
  } else if constexpr (std::is_integral_v<T> && std::is_signed_v<T>) {
    return static_cast<T>(
        detail::json_integer(value, name, std::numeric_limits<T>::min(), std::numeric_limits<T>::max()));
  } else if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(detail::json_unsigned(value, name, std::numeric_limits<T>::max()));
  } else if constexpr (std::is_floating_point_v<T>) {
    return static_cast<T>(detail::json_number(value, name));
  } else if constexpr (std::is_same_v<T, std::string>) {
    return detail::json_string(value, name);
  } else {
    static_assert(detail::IsVector<T>::value, "json_as: unsupported type");
    if (!value.is_array()) detail::throw_json_type(name, "a list", value);
    T list;
    list.reserve(value.size());
    for (const Json& element : value) {
      list.push_back(json_as<typename T::value_type>(element, detail::json_name(name, std::to_string(list.size()))));
    }
    return list;
  }
}

/// The value of `key`, which must be there and not null. `what` names the document in errors, e.g. "config.json".
template <class T>
T require(const Json& object, std::string_view key, std::string_view what = {}) {
  if (!object.is_object()) detail::throw_json_not_object(key, what, object);
  const auto found = object.find(key);
  if (found == object.end() || (found->is_null() && !std::is_same_v<T, Json>)) detail::throw_json_missing(key, what);
  return json_as<T>(*found, detail::json_name(what, key));
}

/// The value of `key`, or `fallback` when it is missing or null. A value of the wrong type is an error all the same.
template <class T>
T get_or(const Json& object, std::string_view key, T fallback, std::string_view what = {}) {
  if (!object.is_object()) detail::throw_json_not_object(key, what, object);
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return fallback;
  return json_as<T>(*found, detail::json_name(what, key));
}

}  // namespace bittern
