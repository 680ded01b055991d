// Speed: how many tokens a second an engine handles, measured on requests of random tokens that never end early. One
// request alone tells prefill and decode, many at once tell throughput; each figure is the median of several repeats.
// What the tokens say plays no part: no sampling but greedy, no text.
#pragma once

#include <bittern/engine.h>

#include <cstdint>
#include <functional>

namespace bittern::engine {

struct SpeedOptions {
  int prompt = 256;   // tokens of a prompt
  int output = 64;    // tokens generated after it, at least 2
  int sequences = 8;  // requests at once for `batched`; the engine runs as many at a time as it was made for
  int repeats = 3;    // of which the median counts
  std::uint64_t seed = 0;
  /// Called before each repeat of a part; may be null; may throw to stop.
  std::function<void(int done, int total)> progress = nullptr;
};

/// Tokens per second.
struct Speed {
  double prefill = 0;  // prompt tokens until the first token comes
  double decode = 0;   // of one sequence, from its first token to its last
  double batched = 0;  // generated tokens of all sequences, over the whole time with their prefill
};

/// `vocab`: tokens are drawn below it. Errors: invalid_argument for options out of range or a prompt and output that
/// the engine's context cannot hold; what the engine reports of a request that failed.
Speed measure_speed(Engine& engine, std::int64_t vocab, const SpeedOptions& options);

}  // namespace bittern::engine
