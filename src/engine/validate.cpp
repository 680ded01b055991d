// Field by field, in the order of request.h.
#include "engine/validate.h"

#include <bittern/error.h>
#include <fmt/core.h>

#include <cmath>
#include <string_view>

namespace bittern::engine {
namespace {

[[noreturn]] void refuse(std::string message, std::string hint = {}) {
  throw Error(ErrorCode::invalid_argument, std::move(message), std::move(hint));
}

// NaN fails every comparison and is refused with the rest.
template <class T>
void check_range(std::string_view field, T value, T low, T high) {
  if (value >= low && value <= high) return;
  refuse(fmt::format("{} is {}, but must be between {} and {}", field, value, low, high));
}

void check_token(std::string_view field, std::int32_t token, std::int64_t vocab) {
  if (token >= 0 && token < vocab) return;
  refuse(fmt::format("{} holds token {}, but the vocabulary has {} tokens", field, token, vocab));
}

void check_probabilities(const SamplingParams& p) {
  if (p.temperature != 0.0) check_range("temperature", p.temperature, 1e-5, 100.0);
  check_range("top_k", p.top_k, 0, 1 << 30);
  if (!(p.top_p > 0.0 && p.top_p <= 1.0))
    refuse(fmt::format("top_p is {}, but must be above 0 and at most 1", p.top_p));
  check_range("min_p", p.min_p, 0.0, 1.0);
}

void check_penalties(const SamplingParams& p, std::int64_t vocab) {
  check_range("repetition_penalty", p.repetition_penalty, 0.01, 100.0);
  check_range("presence_penalty", p.presence_penalty, -2.0, 2.0);
  check_range("frequency_penalty", p.frequency_penalty, -2.0, 2.0);
  for (const auto& [token, bias] : p.logit_bias) {
    check_token("logit_bias", token, vocab);
    check_range("logit_bias", bias, -100.0f, 100.0f);
  }
}

void check_lengths(const SamplingParams& p) {
  if (p.max_tokens < 0 || (p.max_tokens == 0 && p.prompt_logprobs < 0)) {
    refuse(fmt::format("max_tokens is {}, but must be at least 1", p.max_tokens),
           "0 is for requests that ask for prompt_logprobs alone");
  }
  check_range("min_tokens", p.min_tokens, 0, p.max_tokens);
}

void check_prompt(const std::vector<std::int32_t>& prompt, std::int64_t vocab, std::int64_t context) {
  if (prompt.empty()) refuse("prompt is empty", "give at least one token, such as the model's bos token");
  if (static_cast<std::int64_t>(prompt.size()) >= context) {
    refuse(fmt::format("prompt has {} tokens, but the context holds {}", prompt.size(), context),
           fmt::format("at most {} leave room for one token of output", context - 1));
  }
  for (std::int32_t token : prompt) check_token("prompt", token, vocab);
}

}  // namespace

void validate_request(const Request& request, std::int64_t vocab, std::int64_t context) {
  const SamplingParams& p = request.sampling;
  check_prompt(request.prompt, vocab, context);
  check_probabilities(p);
  check_penalties(p, vocab);
  check_lengths(p);
  for (std::int32_t id : p.stop_ids) check_token("stop_ids", id, vocab);
  check_range("logprobs", p.logprobs, -1, kMaxLogprobs);
  check_range("prompt_logprobs", p.prompt_logprobs, -1, kMaxLogprobs);
  check_range("n", request.n, 1, kMaxSamples);
  if (request.pooling != Pooling::none) {
    check_range("n of a pooled request", request.n, 1, 1);
    check_range("prompt_logprobs of a pooled request", p.prompt_logprobs, -1, -1);
  }
}

}  // namespace bittern::engine
