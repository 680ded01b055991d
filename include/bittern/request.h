// What a client asks the engine for, in tokens: the prompt, how to sample, when to stop; and what it gets back.
// Text, templates and HTTP are not known here.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace bittern {

/// A constraint on the next token, e.g. a grammar. Implemented outside the engine, which calls restrict() and then
/// accept() for each token of one sample, on its own thread. An exception ends the sample with failed.
class TokenMask {
 public:
  virtual ~TokenMask() = default;
  /// Clears bit t of `allowed` (one bit a token, little endian in 32-bit words) for every token that may not come next.
  virtual void restrict(std::vector<std::uint32_t>& allowed) = 0;
  /// The token that was chosen.
  virtual void accept(std::int32_t token) = 0;
  /// A mask like this one before its first token, for another sample of the same request.
  virtual std::shared_ptr<TokenMask> clone() const = 0;
};

/// Sampling, in the order it is applied: logit_bias, penalties, min_tokens and mask, temperature, top_k, top_p, min_p.
/// Ranges are checked by Engine::submit, which names the field (docs/sampling.md).
struct SamplingParams {
  double temperature = 1.0;                  // 0: greedy; otherwise up to 100
  int top_k = 0;                             // 0: off
  double top_p = 1.0;                        // (0, 1]
  double min_p = 0.0;                        // [0, 1]
  double repetition_penalty = 1.0;           // [0.01, 100]; over prompt and output (CTRL)
  double presence_penalty = 0.0;             // [-2, 2]; over output (OpenAI)
  double frequency_penalty = 0.0;            // [-2, 2]; over output (OpenAI)
  std::map<std::int32_t, float> logit_bias;  // [-100, 100]
  std::optional<std::uint64_t> seed;         // absent: drawn at submit and reported
  /// At least 1, or 0 with prompt_logprobs: scores alone. Clipped to the context, which is finish reason length.
  int max_tokens = 256;
  int min_tokens = 0;  // at most max_tokens; end tokens and stop_ids cannot be drawn before
  bool ignore_eos = false;
  std::vector<std::int32_t> stop_ids;  // beside the model's own end tokens
  /// -1: none; otherwise how many alternatives beside the chosen token, at most 100. They are the model's own
  /// log-probabilities: log-softmax of its logits before any step of sampling.
  int logprobs = -1;
  int prompt_logprobs = -1;  // likewise for the tokens of the prompt
};

/// Instead of tokens: one vector of the model's hidden size for the prompt, from its states after the final norm.
enum class Pooling : std::uint8_t {
  none,
  mean,  // of all positions
  last,  // of the last one
};

struct Request {
  std::vector<std::int32_t> prompt;  // at least one token
  SamplingParams sampling;
  int n = 1;                        // independent samples of the same prompt, at most 128
  int priority = 0;                 // larger runs first
  std::shared_ptr<TokenMask> mask;  // unused so far; sample 0 follows it, the others clones of it
  Pooling pooling = Pooling::none;  // not none: n is 1, sampling plays no part, TokenStream::embedding has the result
  /// Whose request it is, for fairness: among equal priorities the waiting line takes turns between clients.
  std::string client;
  /// Prefixes are shared among requests of equal salt alone, so that nobody learns from times what others have asked.
  std::string cache_salt;
  std::string id;  // for logs
};

enum class FinishReason : std::uint8_t { none, stop, length, cancelled, failed };

struct TokenLogprob {
  std::int32_t token;
  float logprob;
};

/// One generated token of one of the n samples, or the end of that sample (token < 0).
struct TokenEvent {
  int sample = 0;
  std::int32_t token = -1;
  float logprob = 0;              // of `token`, when asked for
  std::vector<TokenLogprob> top;  // most likely first, when asked for
  FinishReason finish = FinishReason::none;
  std::int32_t stop_token = -1;  // finish == stop: the end token that was drawn; it is not an event of its own
  std::string error;             // finish == failed
};

}  // namespace bittern
