// Every refusal names its field; the edges of every range are accepted.
#include "engine/validate.h"

#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "support/expect_error.h"

namespace bittern::engine {
namespace {

constexpr std::int64_t kVocab = 100;
constexpr std::int64_t kContext = 10;

Request good() {
  Request request;
  request.prompt = {1, 2, 3};
  return request;
}

struct Case {
  const char* expected;  // in the message
  std::function<void(Request&)> change;
};

TEST(Validate, RefusesByName) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Case cases[] = {
      {"prompt is empty", [](Request& r) { r.prompt.clear(); }},
      {"prompt has 10 tokens, but the context holds 10", [](Request& r) { r.prompt.assign(10, 1); }},
      {"at most 9", [](Request& r) { r.prompt.assign(50, 1); }},
      {"prompt holds token 100", [](Request& r) { r.prompt[1] = 100; }},
      {"prompt holds token -1", [](Request& r) { r.prompt[1] = -1; }},
      {"temperature", [](Request& r) { r.sampling.temperature = -0.1; }},
      {"temperature", [](Request& r) { r.sampling.temperature = 101; }},
      {"temperature", [nan](Request& r) { r.sampling.temperature = nan; }},
      {"top_k", [](Request& r) { r.sampling.top_k = -1; }},
      {"top_p", [](Request& r) { r.sampling.top_p = 0.0; }},
      {"top_p", [](Request& r) { r.sampling.top_p = 1.01; }},
      {"top_p", [nan](Request& r) { r.sampling.top_p = nan; }},
      {"min_p", [](Request& r) { r.sampling.min_p = -0.01; }},
      {"min_p", [](Request& r) { r.sampling.min_p = 1.01; }},
      {"repetition_penalty", [](Request& r) { r.sampling.repetition_penalty = 0.0; }},
      {"repetition_penalty", [nan](Request& r) { r.sampling.repetition_penalty = nan; }},
      {"presence_penalty", [](Request& r) { r.sampling.presence_penalty = 2.1; }},
      {"frequency_penalty", [](Request& r) { r.sampling.frequency_penalty = -2.1; }},
      {"logit_bias holds token 100",
       [](Request& r) {
         r.sampling.logit_bias = {{100, 1.0f}};
       }},
      {"logit_bias is 101",
       [](Request& r) {
         r.sampling.logit_bias = {{5, 101.0f}};
       }},
      {"max_tokens", [](Request& r) { r.sampling.max_tokens = 0; }},
      {"min_tokens", [](Request& r) { r.sampling.min_tokens = -1; }},
      {"min_tokens", [](Request& r) { r.sampling.min_tokens = 257; }},
      {"stop_ids",
       [](Request& r) {
         r.sampling.stop_ids = {3, 400};
       }},
      {"logprobs", [](Request& r) { r.sampling.logprobs = 101; }},
      {"prompt_logprobs", [](Request& r) { r.sampling.prompt_logprobs = -2; }},
      {"n is 0", [](Request& r) { r.n = 0; }},
      {"n is 129", [](Request& r) { r.n = 129; }},
  };
  for (const Case& c : cases) {
    Request request = good();
    c.change(request);
    SCOPED_TRACE(c.expected);
    EXPECT_ERROR(ErrorCode::invalid_argument, c.expected, validate_request(request, kVocab, kContext));
  }
}

TEST(Validate, AcceptsTheEdges) {
  Request request = good();
  request.prompt.assign(9, 99);
  request.n = 128;
  SamplingParams& p = request.sampling;
  p.top_p = 1.0;
  p.min_p = 1.0;
  p.repetition_penalty = 100;
  p.presence_penalty = -2;
  p.frequency_penalty = 2;
  p.logit_bias = {{0, -100.0f}, {99, 100.0f}};
  p.max_tokens = 1;
  p.min_tokens = 1;
  p.logprobs = 100;
  p.prompt_logprobs = 0;
  for (double temperature : {0.0, 1e-5, 100.0}) {
    p.temperature = temperature;
    EXPECT_NO_THROW(validate_request(request, kVocab, kContext));
  }
}

}  // namespace
}  // namespace bittern::engine
