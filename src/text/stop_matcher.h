// StopMatcher: finds stop strings in streamed text and holds back only what could still become one.
// Main idea: one Knuth-Morris-Pratt automaton per stop string, fed byte by byte, so each byte costs a few steps however
// the text is cut into pieces. Stop token ids are the sampler's business, not this one's.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bittern::text {

/// What one push let through.
struct StopResult {
  std::string text;                // to be shown now; valid UTF-8 if the input was
  bool stopped = false;            // a stop string is complete: generation ends, later pushes return nothing
  std::optional<size_t> matched;   // index of that stop string
};

/// One generation's stop strings. The first to be complete wins; of those that end at the same byte, the longest.
class StopMatcher {
 public:
  /// `include_stop`: the stop string is part of the text. Throws Error(invalid_argument) for an empty stop string.
  explicit StopMatcher(std::vector<std::string> stops, bool include_stop = false);

  StopResult push(std::string_view text);
  /// What was held back, when the generation ends without a stop string.
  std::string finish();

  bool stopped() const { return stopped_; }

 private:
  struct Pattern {
    std::string text;
    std::vector<size_t> border;  // border[n]: longest proper prefix of the first n bytes that is also their suffix
    size_t matched = 0;          // bytes matched so far
  };

  static void advance(Pattern& pattern, char byte);
  StopResult stop_at(size_t index);
  StopResult release(size_t keep);

  std::vector<Pattern> patterns_;
  bool include_stop_;
  bool stopped_ = false;
  std::string held_;
};

}  // namespace bittern::text
