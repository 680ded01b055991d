// The requests that `bittern bench serve` sends: lengths from ranges or a trace, prompts of that length, times of
// arrival, and which of them a client abandons. Equal seeds give equal loads; nothing here talks to a server.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/random.h"

namespace bittern::cli {

struct TokenRange {
  int low = 0, high = 0;
};
/// "128-512" or "256". Error(invalid_argument) names the option.
TokenRange parse_range(const std::string& option, const std::string& text);
/// "500ms", "2s", "1.5" (seconds). Error(invalid_argument) names the option.
double parse_seconds(const std::string& option, const std::string& text);

/// One row of a trace: when it came, in seconds after the first, and its lengths in tokens.
struct TraceRow {
  double at = 0;
  int prompt = 0, output = 0;
};
/// A CSV file with the columns TIMESTAMP, ContextTokens, GeneratedTokens (the form of Azure's public traces).
std::vector<TraceRow> read_trace(const std::string& path);

struct LoadOptions {
  TokenRange prompt{128, 512}, output{64, 128};
  std::vector<TraceRow> trace;  // lengths in its order, from the start again after its end; empty: the ranges
  bool ids = false;             // prompts as token ids, else as words
  TokenRange id_range{300, 1500};
  double tokens_per_word = 1, tokens_around = 0;  // of words: the server's tokenizer and template, measured before
  int shared_prefix = 0;                          // tokens before every prompt, the same for all
  double cancel_rate = 0;                         // part of requests abandoned after a random number of tokens
  double rate = 0;                                // mean arrivals per second (Poisson); 0: as soon as one has ended
  double replay = 0;                              // arrive as in the trace, that many times as fast; 0: not
  std::uint64_t seed = 0;
};

struct PlannedRequest {
  std::vector<std::int32_t> ids;
  std::string text;
  int prompt_tokens = 0;         // wished for; the server's own count is in the record
  int output_tokens = 0;         // max_tokens
  double at = 0;                 // seconds after the start; only with rate or replay
  std::optional<int> cancel_at;  // abandoned after this many tokens
};

class LoadPlan {
 public:
  explicit LoadPlan(LoadOptions options);
  PlannedRequest next();
  /// Words that the server should count as about `tokens` tokens.
  std::string words(Random& random, int tokens) const;

 private:
  double arrival(const TraceRow* row);

  LoadOptions options_;
  Random lengths_, arrivals_, cancels_;
  std::uint64_t count_ = 0;
  double clock_ = 0;
};

}  // namespace bittern::cli
