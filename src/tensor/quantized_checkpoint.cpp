// The common ground of the readers of quantized checkpoints.
#include "tensor/quantized_checkpoint.h"

#include <bittern/error.h>

#include <algorithm>
#include <regex>

#include "tensor/convert.h"
#include "tensor/quote_name.h"

namespace bittern {

Tensor LinearParts::take(std::string_view part) {
  const std::string name = key(part);
  if (!plain_.contains(name)) {
    throw Error(ErrorCode::invalid_checkpoint,
                "the quantized linear " + quote_name(module_) + " has no tensor " + quote_name(name));
  }
  Weight weight = plain_.dense(name);
  used_.push_back(name);
  keep_.insert(keep_.end(), weight.keep.begin(), weight.keep.end());
  return weight.data;
}

Weight QuantizedCheckpoint::linear(std::string_view module, std::vector<std::string>& used) const {
  const std::string name(module);
  if (is_quantized(name)) {
    LinearParts parts(*plain_, name, used);
    return quantized(parts);
  }
  Weight weight = plain_->linear(module, used);
  if (is_float(weight.format.dtype)) return weight;
  throw Error(ErrorCode::invalid_checkpoint, name + ".weight: is stored as " + weight.format.name() +
                                                 ", but quantization_config does not say that it is quantized");
}

const TensorEntry* find_entry(const Checkpoint& checkpoint, std::string_view name) {
  const std::vector<TensorEntry>& entries = checkpoint.entries();
  const auto found = std::ranges::lower_bound(entries, name, {},
                                              [](const TensorEntry& entry) { return std::string_view(entry.name); });
  return found != entries.end() && found->name == name ? &*found : nullptr;
}

const Json* config_value(const Json& config, const std::string& key) {
  const auto found = config.find(key);
  return found == config.end() || found->is_null() ? nullptr : &*found;
}

void config_wrong_type(const std::string& where, const std::string& key, const char* expected, const Json& found) {
  throw Error(ErrorCode::invalid_checkpoint,
              where + "." + key + " must be " + expected + ", found " + describe_json(found));
}

void config_unsupported(const std::string& where, const std::string& key, const Json& found,
                        const std::string& accepted) {
  throw Error(ErrorCode::unsupported,
              where + "." + key + " is " + describe_json(found) + "; Bittern reads " + accepted);
}

bool config_bool(const Json& config, const std::string& where, const std::string& key, bool fallback) {
  const Json* value = config_value(config, key);
  if (!value) return fallback;
  if (!value->is_boolean()) config_wrong_type(where, key, "true or false", *value);
  return value->get<bool>();
}

std::int64_t config_int(const Json& config, const std::string& where, const std::string& key, std::int64_t fallback) {
  constexpr std::int64_t kLargest = std::int64_t{1} << 30;
  const Json* value = config_value(config, key);
  if (!value) return fallback;
  const bool wraps = value->is_number_unsigned() && value->get<std::uint64_t>() > kLargest;
  if (!value->is_number_integer() || wraps || value->get<std::int64_t>() < -kLargest) {
    config_wrong_type(where, key, "an integer of at most 2^30", *value);
  }
  return value->get<std::int64_t>();
}

std::string config_string(const Json& config, const std::string& where, const std::string& key,
                          const std::string& fallback) {
  const Json* value = config_value(config, key);
  if (!value) return fallback;
  if (!value->is_string()) config_wrong_type(where, key, "a string", *value);
  return value->get<std::string>();
}

std::vector<std::string> config_names(const Json& config, const std::string& where, const std::string& key) {
  const Json* value = config_value(config, key);
  if (!value) return {};
  const auto is_name = [](const Json& name) { return name.is_string(); };
  if (!value->is_array() || !std::all_of(value->begin(), value->end(), is_name)) {
    config_wrong_type(where, key, "a list of names", *value);
  }
  return value->get<std::vector<std::string>>();
}

bool matches_pattern(const std::string& pattern, const std::string& name) {
  constexpr std::size_t kLongest = 1000;  // std::regex compiles recursively
  try {
    if (pattern.size() > kLongest) throw std::regex_error(std::regex_constants::error_space);
    return std::regex_search(name, std::regex(pattern, std::regex::ECMAScript), std::regex_constants::match_continuous);
  } catch (const std::regex_error& error) {
    throw Error(ErrorCode::unsupported, "quantization_config: the expression " + quote_name(pattern) +
                                            " is not one Bittern can read: " + error.what());
  }
}

}  // namespace bittern
