// config.ini of a workspace: one section [llama] with the keys LMDeploy's workspaces had. One table (config_ini.cpp)
// says of each key what it may hold and what it is for: a fact of the weights, a setting of the model, a setting of the
// run, or a knob of LMDeploy's that has no counterpart here and may only hold its neutral value. Nothing is ignored.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "tensor/run_settings.h"

namespace bittern {

class ConfigIni {
 public:
  /// Parses the text of `path`, which names it in errors. Error(invalid_argument) with the line for what is no INI
  /// file, another section, a key given twice; with the key's name for an unknown key (and the nearest right spelling)
  /// and a value that is not of the key's type or range; Error(unsupported) for a knob that is not neutral.
  static ConfigIni parse(std::string_view text, const std::string& path);
  /// An empty one to be filled with set().
  ConfigIni() = default;

  bool has(std::string_view key) const { return values_.contains(key); }
  /// The value, or `fallback` when the key is missing.
  std::int64_t integer(std::string_view key, std::int64_t fallback) const;
  double real(std::string_view key, double fallback) const;
  std::string text(std::string_view key, const std::string& fallback = "") const;
  /// The value of a key that must be there. Error(invalid_argument) names it.
  std::int64_t require_integer(std::string_view key) const;

  /// As if the file had said so; the value is checked like the file's.
  void set(const std::string& key, const std::string& value);
  /// The file's text, keys in the table's order, each with a comment on what editing it does.
  std::string format() const;
  /// All keys with their values as they are spelled.
  const std::map<std::string, std::string, std::less<>>& values() const { return values_; }

  /// Error(invalid_argument) names a key that states a fact of the weights and differs from `written`, what convert
  /// wrote into the file.
  void check_facts(const ConfigIni& written) const;
  /// Whether the key is there with another value than in `written`.
  bool differs(std::string_view key, const ConfigIni& written) const;
  /// The settings of the run; session_len only where it is another than in `written`, the model's own length.
  /// `has_kv_params`: the model carries static KV parameters.
  RunSettings run_settings(const ConfigIni& written, bool has_kv_params) const;

 private:
  std::string path_ = "config.ini";
  std::map<std::string, std::string, std::less<>> values_;
};

}  // namespace bittern
