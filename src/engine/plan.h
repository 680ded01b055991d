// Plan: what one step will do, as a value: which tokens of which sequences run, and which rows of logits are wanted.
// The scheduler writes it, Batch turns it into arrays, the engine reads its results by it.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/sequence.h"

namespace bittern::engine {

/// Tokens [begin, begin + tokens) of one sequence. Its rows of logits follow those of the chunks before it: first one
/// for each of the `scored` prompt positions from `score_begin`, then, when `samples`, one for the last known token and
/// one for each of the `drafted` tokens behind it, which are a guess.
struct Chunk {
  Sequence* sequence = nullptr;
  std::int64_t begin = 0;
  int tokens = 0;
  std::int64_t score_begin = 0;
  int scored = 0;
  bool samples = false;  // every known token is then in the cache, and the next one is drawn
  int drafted = 0;       // of `tokens`, the last ones: the sequence's draft, as much of it as is run

  std::int64_t end() const { return begin + tokens; }
  int rows() const { return scored + draws(); }
  /// Rows from which tokens may be drawn.
  int draws() const { return samples ? 1 + drafted : 0; }
};

struct Plan {
  std::vector<Chunk> chunks;
  int tokens = 0;  // sum of chunks' tokens
  int rows = 0;    // sum of chunks' rows of logits
  int preemptions = 0;

  void clear() {
    chunks.clear();
    tokens = rows = preemptions = 0;
  }
};

}  // namespace bittern::engine
