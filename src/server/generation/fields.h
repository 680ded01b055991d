// Fields: the fields of one JSON object of a request. Each is asked for once, by name and type; what is wrong becomes
// an ApiError that names it, and what nobody asked for is known at the end, to be logged or refused.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "server/api_error.h"

namespace bittern::server {

/// The body of a request as an object whose keys keep their order. Errors name what is wrong with it as JSON.
OrderedJson parse_body(std::string_view body);

/// ApiError(invalid_argument) for a field.
[[noreturn]] void refuse_field(const std::string& param, std::string message, std::string hint = {});

class Fields {
 public:
  /// `path` leads to the object: "" for the body, "stream_options" or "tools[2].function" inside. `object` must outlive
  /// this. An ApiError when it is not an object.
  explicit Fields(const OrderedJson& object, std::string path = {});

  /// The value, or null when it is absent or null.
  const OrderedJson* find(std::string_view key);
  bool has(std::string_view key) { return find(key) != nullptr; }
  /// The value as a type of json_as; nothing when it is absent or null.
  template <class T>
  std::optional<T> get(std::string_view key) {
    const OrderedJson* value = find(key);
    if (value == nullptr) return std::nullopt;
    return convert<T>(*value, param(key));
  }
  template <class T>
  T get_or(std::string_view key, T fallback) {
    return get<T>(key).value_or(std::move(fallback));
  }
  template <class T>
  T require(std::string_view key) {
    require_present(key);
    return *get<T>(key);
  }
  /// get_or, and an ApiError unless low <= value <= high.
  template <class T>
  T in_range(std::string_view key, T fallback, T low, T high) {
    const T value = get_or<T>(key, fallback);
    if (!(value >= low && value <= high)) refuse_range(key, Json(value).dump(), Json(low).dump(), Json(high).dump());
    return value;
  }
  /// A list, or one element in its place.
  std::vector<std::string> strings(std::string_view key);
  /// One of these texts.
  std::optional<std::string> choice(std::string_view key, const std::vector<std::string>& allowed);

  /// The fields are known, and have no effect on the answer (who asked, how it is billed, ...).
  void accept(std::initializer_list<std::string_view> keys);
  /// An ApiError when the field is there with a value that asks for something (not null, false, 0, "" or empty).
  void refuse(std::string_view key, const std::string& reason, std::string hint = {});

  /// "stream_options.include_usage".
  std::string param(std::string_view key) const;
  /// Fields that nobody asked for.
  std::vector<std::string> unknown() const;
  const OrderedJson& json() const { return *object_; }

 private:
  template <class T>
  static T convert(const OrderedJson& value, const std::string& name) {
    if constexpr (std::is_same_v<T, OrderedJson>) {
      return value;
    } else {
      try {
        return json_as<T>(Json(value), name);
      } catch (const Error& error) {
        throw ApiError(error.code(), name, error.message(), error.hint());
      }
    }
  }
  void require_present(std::string_view key);
  [[noreturn]] void refuse_range(std::string_view key, const std::string& value, const std::string& low,
                                 const std::string& high) const;

  const OrderedJson* object_;
  std::string path_;
  std::set<std::string, std::less<>> seen_;
};

/// Logs unknown fields, each once in the life of the process; with `strict` they are an ApiError.
void report_unknown(const Fields& fields, std::string_view route, bool strict);

}  // namespace bittern::server
