// EngineCore with the prefix cache: what is found again, for whom, and that answers stay what they are without it.
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>

#include "fake_model.h"

namespace bittern::engine {
namespace {

using testing::Answer;
using testing::caching;
using testing::Harness;
using testing::limits_of;
using testing::make_request;
using testing::read_arrived;
using testing::run_alone;

TEST(PrefixCaching, WhatWasComputedIsNotComputedAgain) {
  Harness h(64, 4, caching(limits_of(2, 64)), 64);
  const Request request = make_request(18, 6, 1);
  const Answer alone = run_alone(request, 0, 64);
  for (int round = 0; round < 2; ++round) {
    const std::int64_t before = h.model.tokens_run;
    auto channel = h.submit(request);
    h.run_until_idle();
    EXPECT_EQ(read_arrived(*channel)[0], alone);
    EXPECT_EQ(channel->progress().cached_tokens, round == 0 ? 0 : 16);
    const auto drawn = static_cast<std::int64_t>(alone.tokens.size());
    const std::int64_t outputs = alone.finish == FinishReason::stop ? drawn : drawn - 1;  // the last is never run
    EXPECT_EQ(h.model.tokens_run - before, 18 + outputs - (round == 0 ? 0 : 16));
  }
  EXPECT_EQ(h.core.stats().prefix_queries, 36);
  EXPECT_EQ(h.core.stats().prefix_hits, 16);
  EXPECT_EQ(h.core.stats().blocks_used, 0);
  EXPECT_GT(h.core.stats().blocks_cached, 3);
}

TEST(PrefixCaching, AnAnswerIsPartOfTheNextPrompt) {
  Harness h(64, 4, caching(limits_of(2, 64)), 64);
  Request request = make_request(9, 8, 2);
  request.sampling.ignore_eos = true;
  auto first = h.submit(request);
  h.run_until_idle();
  const Answer answer = read_arrived(*first)[0];
  request.prompt.insert(request.prompt.end(), answer.tokens.begin(), answer.tokens.end());
  request.prompt.push_back(11);
  auto second = h.submit(request);
  h.run_until_idle();
  EXPECT_EQ(second->progress().cached_tokens, 16);  // of 9 + 8 + 1
  EXPECT_EQ(read_arrived(*second)[0], run_alone(request, 0, 64));
}

TEST(PrefixCaching, ThoseWhoRunShareToo) {
  Harness h(64, 4, caching(limits_of(3, 64)), 64);
  Request request = make_request(16, 10, 3);
  request.sampling.ignore_eos = true;
  auto first = h.submit(request);
  h.step();
  auto second = h.submit(request);
  h.step();
  EXPECT_EQ(second->progress().cached_tokens, 12);
  h.run_until_idle();
  EXPECT_EQ(read_arrived(*first)[0], read_arrived(*second)[0]);
}

TEST(PrefixCaching, SaltsAndScoresKeepApart) {
  Harness h(64, 4, caching(limits_of(2, 64)), 64);
  Request request = make_request(16, 2, 4);
  h.submit(request);
  h.run_until_idle();
  request.cache_salt = "tenant";
  auto salted = h.submit(request);
  h.run_until_idle();
  EXPECT_EQ(salted->progress().cached_tokens, 0);
  request.cache_salt = {};
  request.sampling.prompt_logprobs = 0;
  auto scored = h.submit(request);
  h.run_until_idle();
  EXPECT_EQ(scored->progress().cached_tokens, 0);  // every position must be run for its scores
  EXPECT_EQ(scored->prompt_logprobs().size(), 16u);
}

TEST(PrefixCaching, WhatFailedIsForgotten) {
  Harness h(64, 4, caching(limits_of(2, 64)), 64);
  Request request = make_request(12, 4, 5);
  request.prompt[1] = 40;
  h.model.poison = 40;
  auto bad = h.submit(request);
  h.run_until_idle();
  EXPECT_EQ(read_arrived(*bad)[0].finish, FinishReason::failed);
  h.model.poison = -1;
  auto good = h.submit(request);
  h.run_until_idle();
  EXPECT_EQ(good->progress().cached_tokens, 0);
  EXPECT_EQ(read_arrived(*good)[0], run_alone(request, 0, 64));
}

}  // namespace
}  // namespace bittern::engine
