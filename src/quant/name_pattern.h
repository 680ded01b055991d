// NamePattern: how options name modules: by whole components of their names, or by an expression. It remembers whether
// it ever matched, so that a pattern which does nothing can be refused.
#pragma once

#include <regex>
#include <string>
#include <vector>

namespace bittern::quant {

class NamePattern {
 public:
  /// "down_proj", "mlp.down_proj", "model.layers.0": names with these components in a row. "re:REGEX": names that the
  /// ECMAScript expression matches from their start. `option` names the option in errors ("--skip").
  /// Error(invalid_argument) for an empty pattern and for a bad expression.
  NamePattern(std::string option, const std::string& text);

  bool matches(const std::string& name);
  bool matched() const { return matched_; }
  /// Error(invalid_argument) when it never matched; suggests the nearest of the last components of `names`.
  void require_matched(const std::vector<std::string>& names) const;

 private:
  std::string option_, text_;
  bool is_regex_;
  std::regex regex_;
  bool matched_ = false;
};

}  // namespace bittern::quant
