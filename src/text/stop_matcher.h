// StopMatcher: finds stop strings in streamed text and holds back only what could still become one.
// Main idea: one Knuth-Morris-Pratt automaton per stop string, fed byte by byte, so each byte costs a few steps however
// the text is cut into pieces. Stop token ids are the sampler's business, not this one's.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace bittern::text {

/// One generation's stop strings. The first to be complete wins; of those that end at the same byte, the longest.
class StopMatcher {
 public:
  /// What one push let through.
  struct Result {
    std::string text;      // to be shown now; valid UTF-8 if the input was
    bool stopped = false;  // a stop string is complete: the generation ends, later pushes return nothing
    std::string stop;      // that stop string
  };

  /// `include_stop`: the stop string is part of the text. Throws Error(invalid_argument) for an empty stop string.
  explicit StopMatcher(std::vector<std::string> stops, bool include_stop = false);

  Result push(std::string_view text);
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
  Result stop_at(size_t index);
  Result release(size_t keep);

  std::vector<Pattern> patterns_;
  bool include_stop_;
  bool stopped_ = false;
  std::string held_;
};

}  // namespace bittern::text
