// Requests that benchmarks make: random tokens that never repeat a prefix, greedy, never ending early.
#pragma once

#include <bittern/engine.h>

#include <cstdint>

#include "base/random.h"

namespace bittern::cli {

class RequestMaker {
 public:
  RequestMaker(std::int64_t vocab, std::uint64_t seed) : vocab_(static_cast<std::uint32_t>(vocab)), random_(seed) {}

  Request make(std::int64_t prompt, int output) {
    Request request;
    request.prompt.reserve(static_cast<std::size_t>(prompt));
    for (std::int64_t i = 0; i < prompt; ++i) {
      request.prompt.push_back(static_cast<std::int32_t>(random_.next_below(vocab_)));
    }
    request.sampling.temperature = 0;
    request.sampling.ignore_eos = true;
    request.sampling.max_tokens = output;
    return request;
  }

 private:
  std::uint32_t vocab_;
  Random random_;
};

/// Waits for the next token of `stream`. Error(internal) with the reason when the request failed; false at its end.
bool wait_for_token(TokenStream& stream);

}  // namespace bittern::cli
