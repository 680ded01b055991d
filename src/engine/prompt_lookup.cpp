// One pass backwards over the tokens: the longest recurrence of their end wins, the latest among equals.
#include "engine/prompt_lookup.h"

#include <algorithm>

namespace bittern::engine {
namespace {

constexpr std::size_t kLeastMatch = 2;  // tokens that must recur
constexpr std::size_t kMostMatch = 12;  // a longer recurrence is not looked for
constexpr int kLongestDraft = 64;       // whatever was right before
constexpr int kLongestPause = 16;       // steps

/// How many tokens before `end` equal those at the end of all, at most kMostMatch.
std::size_t match_length(std::span<const std::int32_t> tokens, std::size_t end) {
  const std::size_t most = std::min(end, kMostMatch);
  std::size_t n = 0;
  while (n < most && tokens[end - 1 - n] == tokens[tokens.size() - 1 - n]) ++n;
  return n;
}

/// Where the longest recurrence of the end of `tokens` ends, at an earlier place; 0: nowhere.
std::size_t find_recurrence(std::span<const std::int32_t> tokens) {
  std::size_t best = kLeastMatch - 1, found = 0;
  for (std::size_t end = tokens.size() - 1; end >= kLeastMatch && best < kMostMatch; --end) {
    if (tokens[end - 1] != tokens.back()) continue;
    const std::size_t n = match_length(tokens, end);
    if (n <= best) continue;
    best = n;
    found = end;
  }
  return found;
}

}  // namespace

// Reads on into the end of the sequence itself where a short period repeats: the guess then goes round.
void PromptLookup::propose(std::span<const std::int32_t> tokens, int most, std::vector<std::int32_t>& draft) {
  draft.clear();
  if (pause_ > 0) {
    --pause_;
    return;
  }
  const std::size_t begin = tokens.size() <= kLeastMatch ? 0 : find_recurrence(tokens);
  if (begin == 0) return;
  for (int i = 0; i < std::min(most, length_); ++i) {
    const std::size_t at = begin + static_cast<std::size_t>(i);
    draft.push_back(at < tokens.size() ? tokens[at] : draft[at - tokens.size()]);
  }
}

void PromptLookup::learn(int run, int accepted) {
  if (run == 0) return;
  if (accepted == 0) {
    misses_ = std::min(misses_ + 1, 5);
    pause_ = std::min(1 << misses_, kLongestPause) / 2;
  } else {
    misses_ = 0;
  }
  length_ = accepted == run ? std::max(length_, std::min(2 * run, kLongestDraft)) : std::max(accepted + 1, 2);
}

}  // namespace bittern::engine
