// Sequence: the progress of one sample of a request inside the engine, and SampleGroup, the samples that share a
// prompt. Plain data: the scheduler moves it between states, the engine appends tokens; clients never see it.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/cache_manager.h"
#include "engine/prompt_lookup.h"

namespace bittern::engine {

struct ActiveRequest;
struct Sequence;

/// A sequence is in exactly one state. waiting: holds no block; running: holds the blocks of all its tokens;
/// finished: known to the scheduler no longer.
enum class SequenceState : std::uint8_t { waiting, running, finished };

/// What the samples of one request have in common.
struct SampleGroup {
  std::vector<Sequence*> members;  // unfinished samples, in order of sample
  bool score_prompt = false;       // log-probabilities of the prompt are asked for
  std::int64_t scored = 1;         // prompt tokens whose log-probability is known; the first has none
  bool draws = true;               // tokens follow the prompt; else it is run and no more
  bool pool_all = false;           // the hidden states of all positions are wanted: none can be left out
  CacheSalt salt;
};

struct Sequence {
  std::int64_t arrival = 0;  // grows with every submit
  std::int64_t turn = 0;     // of its client, which shares the line with others; see README.md
  int priority = 0;          // larger first
  int sample = 0;
  SequenceState state = SequenceState::waiting;

  std::vector<std::int32_t> tokens;  // prompt, then output
  std::vector<std::int32_t> draft;   // a guess of what follows them, for the next step alone
  PromptLookup lookup;               // who guesses
  std::int64_t prompt_length = 0;
  std::int64_t limit = 0;  // longest tokens may get: the end by length
  std::int64_t preemptions = 0;
  std::int64_t computed = 0;  // leading tokens whose K and V are in the cache
  BlockTable blocks;
  std::int64_t known_blocks = 0;    // leading blocks that the prefix cache knows
  std::int64_t cached_tokens = -1;  // found in the prefix cache at the first start; -1 before it
  SampleGroup* group = nullptr;
  ActiveRequest* request = nullptr;  // whom the tokens are for; the scheduler does not look

  std::int64_t length() const { return static_cast<std::int64_t>(tokens.size()); }
  std::int64_t generated() const { return length() - prompt_length; }
  /// Tokens still to be run before the next one can be drawn.
  std::int64_t pending() const { return length() - computed; }
  bool decoding() const { return pending() == 1; }
  /// Known tokens, then the draft's.
  std::int32_t token(std::int64_t position) const {
    return position < length() ? tokens[static_cast<std::size_t>(position)]
                               : draft[static_cast<std::size_t>(position - length())];
  }
};

/// The one order of service: priority, then turn, then arrival, then sample. Total, so somebody is always first and
/// progresses.
bool outranks(const Sequence& a, const Sequence& b);

}  // namespace bittern::engine
