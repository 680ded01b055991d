// EngineCore with requests that draw no token: scores of the prompt alone, and pooled vectors.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

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

TEST(EngineCore, ScoresMayBeAllThatIsAsked) {
  Harness h(64, 4, limits_of(2, 8), 64);
  for (const int prompt : {1, 13}) {
    Request request = make_request(prompt, 0, 6);
    request.sampling.prompt_logprobs = 1;
    request.n = 2;
    auto channel = h.submit(request);
    h.run_until_idle();
    for (const Answer& answer : read_arrived(*channel)) {
      EXPECT_TRUE(answer.tokens.empty());
      EXPECT_EQ(answer.finish, FinishReason::length);
    }
    EXPECT_EQ(channel->prompt_logprobs().size(), static_cast<std::size_t>(prompt));
  }
}

std::vector<float> pooled_by_hand(const std::vector<std::int32_t>& prompt, Pooling pooling) {
  std::vector<float> vector;
  for (std::int64_t c = 0; c < testing::kHidden; ++c) {
    double sum = 0;
    const auto size = static_cast<std::int32_t>(prompt.size());
    for (std::int32_t p = pooling == Pooling::last ? size - 1 : 0; p < size; ++p) {
      sum += static_cast<double>(testing::fake_state(prompt[static_cast<std::size_t>(p)], p, c));
    }
    vector.push_back(static_cast<float>(pooling == Pooling::mean ? sum / size : sum));
  }
  return vector;
}

TEST(Pooling, IsTheSameInAnyChunksBesideOthersAndAfterPreemption) {
  for (const int step_tokens : {4, 7, 64}) {
    Harness h(20, 4, caching(limits_of(3, step_tokens)), 64);
    std::vector<std::shared_ptr<RequestChannel>> channels;
    std::vector<Request> requests;
    for (int i = 0; i < 6; ++i) {
      Request request = make_request(5 + 7 * i, 20, static_cast<std::uint64_t>(i % 2));  // some share a prefix
      request.sampling.ignore_eos = true;
      request.priority = i;
      if (i % 3 != 0) request.pooling = i % 3 == 1 ? Pooling::mean : Pooling::last;
      requests.push_back(request);
      channels.push_back(h.submit(request));
      h.step();  // the next one has a higher priority and may take the blocks of this one
    }
    h.run_until_idle();
    EXPECT_GT(h.core.stats().preemptions, 0);
    for (std::size_t i = 0; i < requests.size(); ++i) {
      SCOPED_TRACE(::testing::Message() << "request " << i << ", steps of " << step_tokens);
      const Answer answer = read_arrived(*channels[i])[0];
      if (requests[i].pooling == Pooling::none) {
        EXPECT_EQ(answer, run_alone(requests[i], 0, 64));
        EXPECT_TRUE(channels[i]->embedding().empty());
        continue;
      }
      EXPECT_EQ(answer.finish, FinishReason::stop);
      EXPECT_TRUE(answer.tokens.empty());
      EXPECT_EQ(channels[i]->embedding(), pooled_by_hand(requests[i].prompt, requests[i].pooling));
    }
  }
}

// States that are not finite would make a vector of NaN, which JSON cannot even hold.
TEST(Pooling, StatesThatAreNotFiniteEndTheirRequestAlone) {
  for (const Pooling pooling : {Pooling::mean, Pooling::last}) {
    Harness h(64, 4, limits_of(2, 64), 64);
    Request bad = make_request(6, 1, 1);
    bad.prompt.back() = h.model.poison = 40;
    Request good = make_request(5, 1, 2);
    std::replace(good.prompt.begin(), good.prompt.end(), 40, 41);
    bad.pooling = good.pooling = pooling;
    auto failed = h.submit(bad), fine = h.submit(good);
    h.run_until_idle();
    const Answer answer = read_arrived(*failed)[0];
    EXPECT_EQ(answer.finish, FinishReason::failed);
    EXPECT_NE(answer.error.find("not finite"), std::string::npos) << answer.error;
    EXPECT_TRUE(failed->embedding().empty());
    EXPECT_EQ(fine->embedding(), pooled_by_hand(good.prompt, pooling));
  }
}

// A step that was left by an exception does not run any more: a watchdog would call an idle engine stalled for ever.
TEST(Pooling, AnExceptionEndsTheRunningStep) {
  Harness h(64, 4, limits_of(2, 64), 64);
  Request request = make_request(6, 1, 1);
  request.pooling = Pooling::mean;
  h.model.before_read = [&] {
    EXPECT_GT(h.core.running_step().seconds, 0);
    throw std::runtime_error("no memory");
  };
  auto channel = h.submit(request);
  EXPECT_THROW(h.core.step(), std::runtime_error);
  EXPECT_EQ(h.core.running_step().seconds, 0);
  h.core.end_all(FinishReason::failed, "no memory");
  EXPECT_EQ(read_arrived(*channel)[0].finish, FinishReason::failed);
}

}  // namespace
}  // namespace bittern::engine
