// Sampler: turns one row of logits into one token, in the order request.h documents: logit_bias, penalties, min_tokens
// and mask, temperature, top_k, top_p, min_p. It keeps no state of any sequence: randomness is a function of (seed,
// sample, position) and penalties are recounted from the tokens, so batching, preemption and restarts cannot change an
// answer.
#pragma once

#include <bittern/request.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/token_draw.h"

namespace bittern::engine {

/// What one draw depends on besides the logits.
struct SamplingContext {
  const SamplingParams& params;
  std::uint64_t seed = 0;
  int sample = 0;
  std::span<const std::int32_t> tokens;   // prompt, then output so far; the draw's position is tokens.size()
  std::int64_t prompt_length = 0;         // how many of `tokens` are prompt
  std::span<const std::int32_t> end_ids;  // tokens that would end the sample: withheld before min_tokens
  TokenMask* mask = nullptr;

  std::int64_t generated() const { return static_cast<std::int64_t>(tokens.size()) - prompt_length; }
  std::span<const std::int32_t> output() const { return tokens.subspan(static_cast<std::size_t>(prompt_length)); }
};

struct SampledToken {
  std::int32_t token = -1;
  float logprob = 0;              // of `token`, when params.logprobs >= 0
  std::vector<TokenLogprob> top;  // params.logprobs alternatives, most likely first
  std::string error;              // not empty: nothing could be drawn, and why
};

/// The uniform number of one draw, in [0, 1).
double uniform_at(std::uint64_t seed, int sample, std::int64_t position);

class Sampler {
 public:
  explicit Sampler(std::int64_t vocab);

  /// Draws the next token of `context` from `logits` (vocab). Log-probabilities are those of the model itself:
  /// log-softmax of `logits` before any step of sampling. Logits that are NaN or +infinity, or a mask that leaves no
  /// token, give an error, never a guess. Exceptions of the mask pass through.
  SampledToken sample(std::span<const float> logits, const SamplingContext& context);

  /// Log-probability of a token that was given rather than drawn, with `alternatives` most likely ones.
  static SampledToken score(std::span<const float> logits, std::int32_t token, int alternatives);

 private:
  std::int32_t choose(std::span<const float> logits, float max, const SamplingContext& context);
  void adjust(const SamplingContext& context);
  void apply_bias(const SamplingParams& params);
  void apply_repetition(const SamplingContext& context);
  void apply_presence_and_frequency(const SamplingContext& context);
  void apply_mask(TokenMask& mask);

  std::vector<float> adjusted_;         // (vocab) the row once anything changed it
  std::vector<std::int32_t> counts_;    // (vocab) scratch, all zero between uses
  std::vector<std::uint32_t> allowed_;  // (vocab / 32, rounded up)
  TokenDraw draw_;
};

}  // namespace bittern::engine
