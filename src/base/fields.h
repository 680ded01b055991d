// One list of fields per struct serves every purpose: reading and writing JSON, printing, and (in the apps) command
// line options. A struct takes part by naming its fields once:
//
//   struct Sampling {
//     float temperature = 1;
//     template <class V>
//     void fields(V&& v) {
//       v("temperature", temperature, "0 is greedy");
//     }
//   };
//
// A field may be a bool, a number, a string, an enum with EnumNames, another such struct, or a std::optional or
// std::vector of these. The help text may be left out.
#pragma once

#include <fmt/core.h>

#include <algorithm>
#include <concepts>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/json.h"
#include "base/strings.h"

namespace bittern {

/// Specialize for an enum to give its values their names:
///   template <> struct EnumNames<Color> {
///     static constexpr std::pair<Color, std::string_view> values[] = {{Color::red, "red"}};
///   };
template <class E>
struct EnumNames;

template <class E>
concept NamedEnum = std::is_enum_v<E> && requires {
  EnumNames<E>::values[0];
};

namespace detail {
struct AnyField {
  template <class T>
  void operator()(std::string_view, T&, std::string_view = {}) const {}
};
template <class T>
struct IsOptional : std::false_type {};
template <class T>
struct IsOptional<std::optional<T>> : std::true_type {};
}  // namespace detail

/// A struct that lists its fields.
template <class T>
concept HasFields = requires(T& value) {
  value.fields(detail::AnyField{});
};

/// Visits the fields of a const object; the visitor gets const references.
template <HasFields T, class V>
void visit_fields(const T& value, V&& visitor) {
  // fields() only passes its members on, so nothing is modified here.
  const_cast<T&>(value).fields(
      [&](std::string_view name, const auto& field, std::string_view help = {}) { visitor(name, field, help); });
}

template <NamedEnum E>
std::string_view enum_name(E value) {
  for (const auto& [candidate, name] : EnumNames<E>::values) {
    if (candidate == value) return name;
  }
  return "unknown";
}

template <NamedEnum E>
std::vector<std::string> enum_names() {
  std::vector<std::string> names;
  for (const auto& row : EnumNames<E>::values) names.emplace_back(row.second);
  return names;
}

/// The value of a name; throws Error(invalid_argument) naming `what`, the known names and the nearest one.
template <NamedEnum E>
E parse_enum(std::string_view text, std::string_view what) {
  for (const auto& [value, name] : EnumNames<E>::values) {
    if (name == text) return value;
  }
  const std::vector<std::string> names = enum_names<E>();
  throw Error(ErrorCode::invalid_argument,
              fmt::format("{} is '{}', but must be one of: {}", what, text, join(names, ", ")),
              did_you_mean(text, names));
}

// --- Writing ----------------------------------------------------------------------------------------------------

/// The fields as a JSON object, in the order of the list. An empty optional is null.
template <HasFields T>
OrderedJson to_json(const T& value);

namespace detail {
template <class T>
OrderedJson field_to_json(const T& field) {
  if constexpr (HasFields<T>) {
    return to_json(field);
  } else if constexpr (NamedEnum<T>) {
    return std::string(enum_name(field));
  } else if constexpr (IsOptional<T>::value) {
    return field ? field_to_json(*field) : OrderedJson(nullptr);
  } else if constexpr (IsVector<T>::value) {
    OrderedJson list = OrderedJson::array();
    for (const auto& element : field) list.push_back(field_to_json<typename T::value_type>(element));
    return list;
  } else {
    return OrderedJson(field);
  }
}
}  // namespace detail

template <HasFields T>
OrderedJson to_json(const T& value) {
  OrderedJson object = OrderedJson::object();
  visit_fields(value, [&](std::string_view name, const auto& field, std::string_view) {
    object[std::string(name)] = detail::field_to_json(field);
  });
  return object;
}

// --- Reading ----------------------------------------------------------------------------------------------------

enum class UnknownKeys { refuse, ignore };

/// Fills the fields that the object has and leaves the others alone; null empties an optional and is ignored for other
/// fields. Throws Error(invalid_argument), with `what` as the document's name, for a wrong type or, unless told to
/// ignore them, an unknown key (with the nearest known one).
template <HasFields T>
void from_json(const Json& object, T& value, std::string_view what, UnknownKeys unknown = UnknownKeys::refuse);

/// The names of the fields, in order.
template <HasFields T>
std::vector<std::string> field_names() {
  std::vector<std::string> names;
  const T value{};
  visit_fields(value, [&](std::string_view name, const auto&, std::string_view) { names.emplace_back(name); });
  return names;
}

namespace detail {

[[noreturn]] void throw_unknown_key(std::string_view what, std::string_view key, std::span<const std::string> known);
void require_object(const Json& value, std::string_view what);

template <class T>
void field_from_json(const Json& json, T& field, const std::string& name, UnknownKeys unknown) {
  if constexpr (HasFields<T>) {
    from_json(json, field, name, unknown);
  } else if constexpr (NamedEnum<T>) {
    field = parse_enum<T>(json_as<std::string>(json, name), name);
  } else if constexpr (IsOptional<T>::value) {
    typename T::value_type inner{};
    field_from_json(json, inner, name, unknown);
    field = std::move(inner);
  } else if constexpr (IsVector<T>::value) {
    if (!json.is_array()) throw_json_type(name, "a list", json);
    T list;
    for (const Json& element : json) {
      typename T::value_type item{};
      field_from_json(element, item, fmt::format("{}[{}]", name, list.size()), unknown);
      list.push_back(std::move(item));
    }
    field = std::move(list);
  } else {
    field = json_as<T>(json, name);
  }
}

}  // namespace detail

template <HasFields T>
void from_json(const Json& object, T& value, std::string_view what, UnknownKeys unknown) {
  detail::require_object(object, what);
  if (unknown == UnknownKeys::refuse) {
    const std::vector<std::string> known = field_names<T>();
    for (const auto& item : object.items()) {
      if (std::find(known.begin(), known.end(), item.key()) == known.end()) {
        detail::throw_unknown_key(what, item.key(), known);
      }
    }
  }
  value.fields([&](std::string_view name, auto& field, std::string_view = {}) {
    using Field = std::remove_reference_t<decltype(field)>;
    const auto found = object.find(name);
    if (found == object.end()) return;
    if (found->is_null()) {
      if constexpr (detail::IsOptional<Field>::value) field.reset();
      return;
    }
    detail::field_from_json(*found, field, detail::json_name(what, name), unknown);
  });
}

// --- Describing -------------------------------------------------------------------------------------------------

struct FieldDescription {
  std::string name;
  std::string value;  // as JSON
  std::string help;
};

/// Name, present value and help text of each field: for tables of settings.
template <HasFields T>
std::vector<FieldDescription> describe(const T& value) {
  std::vector<FieldDescription> rows;
  visit_fields(value, [&](std::string_view name, const auto& field, std::string_view help) {
    rows.push_back({std::string(name), detail::field_to_json(field).dump(), std::string(help)});
  });
  return rows;
}

}  // namespace bittern
