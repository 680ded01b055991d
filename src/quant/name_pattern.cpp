// Matching of module names, and the errors of patterns that cannot be meant.
#include "quant/name_pattern.h"

#include <bittern/error.h>

#include "base/strings.h"

namespace bittern::quant {
namespace {

[[noreturn]] void invalid(std::string message, std::string hint = {}) {
  throw Error(ErrorCode::invalid_argument, std::move(message), std::move(hint));
}

}  // namespace

NamePattern::NamePattern(std::string option, const std::string& text)
    : option_(std::move(option)), text_(text), is_regex_(text.starts_with("re:")) {
  if (text.empty() || text == "re:") invalid(option_ + " '" + text + "' names nothing");
  if (!is_regex_) return;
  try {
    regex_.assign(text.substr(3), std::regex::ECMAScript);
  } catch (const std::regex_error& error) {
    invalid(option_ + " '" + text + "' is not a valid ECMAScript expression: " + error.what());
  }
}

bool NamePattern::matches(const std::string& name) {
  const bool hit = is_regex_ ? std::regex_search(name, regex_, std::regex_constants::match_continuous)
                             : ("." + name + ".").find("." + text_ + ".") != std::string::npos;
  matched_ = matched_ || hit;
  return hit;
}

void NamePattern::require_matched(const std::vector<std::string>& names) const {
  if (matched_) return;
  std::vector<std::string> parts;
  for (const std::string& name : names) parts.push_back(name.substr(name.rfind('.') + 1));
  const std::string example = names.empty() ? "" : "names look like " + names.front();
  const std::string guess = did_you_mean(text_, parts);
  invalid(option_ + " '" + text_ + "' matches no linear of this model", guess.empty() ? example : guess);
}

}  // namespace bittern::quant
