// The automata of StopMatcher. What is held back is always the longest partial match among the stop strings, rounded
// up to whole characters.
#include "text/stop_matcher.h"

#include <bittern/error.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "base/strings.h"

namespace bittern::text {
namespace {

std::vector<size_t> borders(std::string_view text) {
  std::vector<size_t> border(text.size() + 1, 0);
  for (size_t n = 1, length = 0; n < text.size(); ++n) {
    while (length > 0 && text[n] != text[length]) length = border[length];
    if (text[n] == text[length]) ++length;
    border[n + 1] = length;
  }
  return border;
}

}  // namespace

StopMatcher::StopMatcher(std::vector<std::string> stops, bool include_stop) : include_stop_(include_stop) {
  for (std::string& stop : stops) {
    if (stop.empty()) throw Error(ErrorCode::invalid_argument, "a stop string is empty", "leave it out");
    std::vector<size_t> border = borders(stop);
    patterns_.push_back({std::move(stop), std::move(border)});
  }
}

StopMatcher::Result StopMatcher::push(std::string_view text) {
  if (stopped_) return {{}, true, {}};
  for (const char byte : text) {
    held_ += byte;
    std::optional<size_t> best;
    for (size_t i = 0; i < patterns_.size(); ++i) {
      advance(patterns_[i], byte);
      const bool complete = patterns_[i].matched == patterns_[i].text.size();
      if (complete && (!best || patterns_[i].text.size() > patterns_[*best].text.size())) best = i;
    }
    if (best) return stop_at(*best);
  }
  size_t keep = 0;
  for (const Pattern& pattern : patterns_) keep = std::max(keep, pattern.matched);
  return release(keep);
}

std::string StopMatcher::finish() { return std::exchange(held_, {}); }

void StopMatcher::advance(Pattern& pattern, char byte) {
  while (pattern.matched > 0 && pattern.text[pattern.matched] != byte)
    pattern.matched = pattern.border[pattern.matched];
  if (pattern.text[pattern.matched] == byte) ++pattern.matched;
}

StopMatcher::Result StopMatcher::stop_at(size_t index) {
  stopped_ = true;
  if (!include_stop_) held_.resize(held_.size() - patterns_[index].text.size());
  return {std::exchange(held_, {}), true, patterns_[index].text};
}

/// Lets go of all but the last `keep` bytes, and of no half character.
StopMatcher::Result StopMatcher::release(size_t keep) {
  const size_t cut = held_.size() - keep;
  const size_t complete = cut - utf8_incomplete_tail(std::string_view(held_).substr(0, cut));
  Result result{held_.substr(0, complete), false, {}};
  held_.erase(0, complete);
  return result;
}

}  // namespace bittern::text
