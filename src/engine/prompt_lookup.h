// PromptLookup: guesses what follows a sequence by looking for its last few tokens further back in it, in prompt and
// output alike, and taking what came after them there (Saxena, "Prompt Lookup Decoding", 2023). A summary, an edit or a
// quotation repeats what it read, so many such guesses are right; whoever runs them decides which ones are kept.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace bittern::engine {

class PromptLookup {
 public:
  /// Replaces `draft` by at most `most` guessed tokens that follow `tokens`; none where nothing in it recurs, or for a
  /// while after guesses that were wrong.
  void propose(std::span<const std::int32_t> tokens, int most, std::vector<std::int32_t>& draft);
  /// Tells how the last draft that was run fared: the first `accepted` of its `run` tokens were right.
  void learn(int run, int accepted);

 private:
  // How much is guessed follows what was right: twice as much after a draft that was all right.
  int length_ = 4;
  int misses_ = 0;  // drafts in a row of which nothing was right
  int pause_ = 0;   // steps without a draft still to come
};

}  // namespace bittern::engine
