// Reading fields, and the texts of what can be wrong with one.
#include "server/generation/fields.h"

#include <fmt/core.h>

#include <algorithm>
#include <mutex>

#include "base/log.h"
#include "base/strings.h"

namespace bittern::server {
namespace {

constexpr std::size_t kMostLoggedFields = 1000;  // names come from clients, so what is remembered is bounded

bool asks_for_nothing(const OrderedJson& value) {
  if (value.is_boolean()) return !value.get<bool>();
  if (value.is_number()) return value.get<double>() == 0;
  if (value.is_string()) return value.get_ref<const std::string&>().empty();
  return value.empty();
}

bool first_time(const std::string& name) {
  static std::mutex mutex;
  static std::set<std::string> logged;
  const std::lock_guard lock(mutex);
  return logged.size() < kMostLoggedFields && logged.insert(name).second;
}

}  // namespace

OrderedJson parse_body(std::string_view body) {
  const Json checked = parse_json(body, "the request's body");
  if (!checked.is_object()) {
    throw ApiError(ErrorCode::invalid_argument, "",
                   "the request's body must be a JSON object, but it is " + describe_json(checked));
  }
  return OrderedJson::parse(body);
}

void refuse_field(const std::string& param, std::string message, std::string hint) {
  throw ApiError(ErrorCode::invalid_argument, param, std::move(message), std::move(hint));
}

Fields::Fields(const OrderedJson& object, std::string path) : object_(&object), path_(std::move(path)) {
  if (object.is_object()) return;
  refuse_field(path_, fmt::format("{} must be an object, but it is {}", path_, describe_json(Json(object))));
}

const OrderedJson* Fields::find(std::string_view key) {
  seen_.insert(std::string(key));
  const auto found = object_->find(std::string(key));
  return found == object_->end() || found->is_null() ? nullptr : &*found;
}

std::vector<std::string> Fields::strings(std::string_view key) {
  const OrderedJson* value = find(key);
  if (value == nullptr) return {};
  if (value->is_string()) return {value->get<std::string>()};
  return convert<std::vector<std::string>>(*value, param(key));
}

std::optional<std::string> Fields::choice(std::string_view key, const std::vector<std::string>& allowed) {
  std::optional<std::string> value = get<std::string>(key);
  if (!value || std::find(allowed.begin(), allowed.end(), *value) != allowed.end()) return value;
  refuse_field(param(key), fmt::format("{} is '{}', but must be one of: {}", param(key), *value, join(allowed, ", ")),
               did_you_mean(*value, allowed));
}

void Fields::accept(std::initializer_list<std::string_view> keys) {
  for (std::string_view key : keys) seen_.insert(std::string(key));
}

void Fields::refuse(std::string_view key, const std::string& reason, std::string hint) {
  const OrderedJson* value = find(key);
  if (value == nullptr || asks_for_nothing(*value)) return;
  throw ApiError(ErrorCode::invalid_argument, param(key), fmt::format("{} is not supported: {}", param(key), reason),
                 std::move(hint), "unsupported_parameter");
}

std::string Fields::param(std::string_view key) const {
  return path_.empty() ? std::string(key) : path_ + "." + std::string(key);
}

std::vector<std::string> Fields::unknown() const {
  std::vector<std::string> names;
  for (const auto& item : object_->items()) {
    if (!seen_.contains(item.key())) names.push_back(param(item.key()));
  }
  return names;
}

void Fields::require_present(std::string_view key) {
  if (has(key)) return;
  throw ApiError(ErrorCode::invalid_argument, param(key), fmt::format("{} is missing", param(key)), "",
                 "missing_required_parameter");
}

void Fields::refuse_range(std::string_view key, const std::string& value, const std::string& low,
                          const std::string& high) const {
  refuse_field(param(key), fmt::format("{} is {}, but must be between {} and {}", param(key), value, low, high));
}

void report_unknown(const Fields& fields, std::string_view route, bool strict) {
  for (const std::string& name : fields.unknown()) {
    if (strict) {
      throw ApiError(ErrorCode::invalid_argument, name, fmt::format("unknown field '{}'", name),
                     "the server runs with --strict; without it unknown fields are ignored", "unknown_parameter");
    }
    if (first_time(fmt::format("{} {}", route, name))) {
      log_warn("{}: the unknown field '{}' is ignored (logged once; --strict refuses it)", route, name.substr(0, 80));
    }
  }
}

}  // namespace bittern::server
