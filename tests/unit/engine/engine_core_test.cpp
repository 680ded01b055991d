// EngineCore step by step with the fake model: how samples end, what clients are told and when blocks come back.
#include "engine/engine_core.h"

#include <bittern/error.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>

#include "fake_model.h"

namespace bittern::engine {
namespace {

using testing::Answer;
using testing::Harness;
using testing::kEos;
using testing::limits_of;
using testing::make_request;
using testing::read_arrived;
using testing::run_alone;

// A seed whose answer satisfies `wanted`; the fake model is random enough to have one soon.
template <class Predicate>
Request find_request(int prompt, int max_tokens, std::int64_t context, Predicate wanted) {
  for (std::uint64_t seed = 1; seed < 10000; ++seed) {
    Request request = make_request(prompt, max_tokens, seed);
    if (wanted(run_alone(request, 0, context))) return request;
  }
  ADD_FAILURE() << "no seed gives the wanted answer";
  return {};
}

TEST(EngineCore, AnswersAsThePlainLoopDoes) {
  Harness h(16, 4, limits_of(4, 8), 64);
  const Request request = find_request(11, 20, 64, [](const Answer& a) { return a.finish == FinishReason::length; });
  auto channel = h.submit(request);
  h.run_until_idle();
  EXPECT_EQ(read_arrived(*channel)[0], run_alone(request, 0, 64));
}

TEST(EngineCore, StopsAtTheModelsEndToken) {
  Harness h(16, 4, limits_of(4, 8), 64);
  const Request request = find_request(5, 30, 64, [](const Answer& a) { return a.finish == FinishReason::stop; });
  auto channel = h.submit(request);
  h.run_until_idle();
  const Answer answer = read_arrived(*channel)[0];
  EXPECT_EQ(answer.finish, FinishReason::stop);
  EXPECT_EQ(answer.stop_token, kEos);
  EXPECT_EQ(answer, run_alone(request, 0, 64));
}

TEST(EngineCore, IgnoreEosGoesOn) {
  Harness h(16, 4, limits_of(4, 8), 64);
  Request request = find_request(5, 30, 64, [](const Answer& a) { return a.finish == FinishReason::stop; });
  request.sampling.ignore_eos = true;
  auto channel = h.submit(request);
  h.run_until_idle();
  const Answer answer = read_arrived(*channel)[0];
  EXPECT_EQ(answer.finish, FinishReason::length);
  EXPECT_EQ(answer.tokens.size(), 30u);
  EXPECT_NE(std::find(answer.tokens.begin(), answer.tokens.end(), kEos), answer.tokens.end());
}

TEST(EngineCore, MinTokensPutsTheEndOff) {
  Harness h(16, 4, limits_of(4, 8), 64);
  Request request =
      find_request(5, 30, 64, [](const Answer& a) { return a.finish == FinishReason::stop && a.tokens.size() < 5; });
  request.sampling.min_tokens = 12;
  auto channel = h.submit(request);
  h.run_until_idle();
  EXPECT_GE(read_arrived(*channel)[0].tokens.size(), 12u);
}

TEST(EngineCore, StopIdsEndASampleAndAreReported) {
  Harness h(16, 4, limits_of(4, 8), 64);
  Request request = find_request(5, 20, 64, [](const Answer& a) { return a.tokens.size() == 20; });
  request.sampling.stop_ids = {run_alone(request, 0, 64).tokens[10]};
  auto channel = h.submit(request);
  h.run_until_idle();
  const Answer answer = read_arrived(*channel)[0];
  EXPECT_EQ(answer.finish, FinishReason::stop);
  EXPECT_EQ(answer.stop_token, request.sampling.stop_ids[0]);
  EXPECT_LE(answer.tokens.size(), 10u);
}

TEST(EngineCore, MaxTokensIsClippedToTheContext) {
  Harness h(16, 4, limits_of(4, 8), 24);
  Request request = make_request(20, 1000, 3);
  request.sampling.ignore_eos = true;
  auto channel = h.submit(request);
  h.run_until_idle();
  const Answer answer = read_arrived(*channel)[0];
  EXPECT_EQ(answer.finish, FinishReason::length);
  EXPECT_EQ(answer.tokens.size(), 4u);
}

TEST(EngineCore, ChunkSizeChangesNothing) {
  const Request request = make_request(23, 12, 77);
  const Answer expected = run_alone(request, 0, 64);
  for (int chunk = 1; chunk <= 24; ++chunk) {
    Harness h(16, 4, limits_of(1, chunk), 64);
    auto channel = h.submit(request);
    h.run_until_idle();
    EXPECT_EQ(read_arrived(*channel)[0], expected) << "chunk " << chunk;
  }
}

TEST(EngineCore, SamplesOfOnePromptDifferAndEqualThemselvesAlone) {
  Harness h(64, 4, limits_of(4, 8), 64);
  Request request = make_request(13, 15, 5);
  request.n = 6;  // more than run at once
  auto channel = h.submit(request);
  h.run_until_idle();
  const std::vector<Answer> answers = read_arrived(*channel);
  for (int i = 0; i < 6; ++i) EXPECT_EQ(answers[static_cast<std::size_t>(i)], run_alone(request, i, 64)) << i;
  EXPECT_NE(answers[0].tokens, answers[1].tokens);
}

TEST(EngineCore, SharingSavesThePromptForSiblings) {
  Request request = make_request(41, 3, 5);
  request.sampling.ignore_eos = true;
  request.n = 4;
  Harness h(64, 4, limits_of(4, 64), 64);
  auto channel = h.submit(request);
  h.run_until_idle();
  EXPECT_EQ(h.model.tokens_run, 41 + 3 * 1 + 4 * 2);  // one prompt, its last token for each sibling, and the output
}

TEST(EngineCore, CancelFreesBlocksInTheSameStep) {
  Harness h(16, 4, limits_of(4, 8), 64);
  Request request = make_request(9, 50, 4);
  request.sampling.ignore_eos = true;
  auto channel = h.submit(request);
  h.step();
  h.step();
  EXPECT_GT(h.core.stats().blocks_used, 0);
  h.cancel(*channel);
  h.step();
  EXPECT_EQ(h.core.stats().blocks_used, 0);
  EXPECT_TRUE(h.core.idle());
  EXPECT_EQ(read_arrived(*channel)[0].finish, FinishReason::cancelled);
  EXPECT_EQ(h.core.stats().cancelled, 1);
}

TEST(EngineCore, CancellingOneSampleLeavesTheOthers) {
  Harness h(64, 4, limits_of(4, 16), 64);
  Request request = make_request(9, 10, 4);
  request.sampling.ignore_eos = true;
  request.n = 3;
  auto channel = h.submit(request);
  h.step();
  h.cancel(*channel, 0);  // the one that prefills
  h.run_until_idle();
  const std::vector<Answer> answers = read_arrived(*channel);
  EXPECT_EQ(answers[0].finish, FinishReason::cancelled);
  for (int i = 1; i < 3; ++i) EXPECT_EQ(answers[static_cast<std::size_t>(i)], run_alone(request, i, 64));
}

TEST(EngineCore, CancellingBeforeTheFirstStepEndsItToo) {
  Harness h(16, 4, limits_of(4, 8), 64);
  auto channel = h.submit(make_request(9, 50, 4));
  h.cancel(*channel);
  h.step();
  EXPECT_TRUE(h.core.idle());
  EXPECT_EQ(read_arrived(*channel)[0].finish, FinishReason::cancelled);
  EXPECT_EQ(h.model.steps, 0);
}

TEST(EngineCore, NanEndsItsRequestAlone) {
  Harness h(32, 4, limits_of(4, 16), 64);
  h.model.poison = 47;
  Request bad = make_request(6, 10, 1);
  bad.prompt[2] = 47;
  Request good = find_request(
      6, 10, 64, [](const Answer& a) { return std::find(a.tokens.begin(), a.tokens.end(), 47) == a.tokens.end(); });
  std::erase(good.prompt, 47);
  auto bad_channel = h.submit(bad);
  auto good_channel = h.submit(good);
  h.run_until_idle();
  const Answer failed = read_arrived(*bad_channel)[0];
  EXPECT_EQ(failed.finish, FinishReason::failed);
  EXPECT_NE(failed.error.find("NaN"), std::string::npos);
  EXPECT_TRUE(failed.tokens.empty());
  EXPECT_EQ(read_arrived(*good_channel)[0], run_alone(good, 0, 64));
  EXPECT_EQ(h.core.stats().failed, 1);
}

TEST(EngineCore, AFailedStepEndsThoseThatRunAndTheEngineGoesOn) {
  Harness h(64, 4, limits_of(2, 16), 64);
  Request request = make_request(6, 10, 1);
  request.sampling.ignore_eos = true;
  auto first = h.submit(request);
  auto second = h.submit(request);
  auto waiting = h.submit(request);
  h.step();
  h.model.before_step = [] { throw std::runtime_error("the device is gone"); };
  h.step();
  h.model.before_step = nullptr;
  for (auto* channel : {&first, &second}) {
    const Answer answer = read_arrived(**channel)[0];
    EXPECT_EQ(answer.finish, FinishReason::failed);
    EXPECT_NE(answer.error.find("the device is gone"), std::string::npos);
  }
  h.run_until_idle();
  EXPECT_EQ(read_arrived(*waiting)[0], run_alone(request, 0, 64));
}

TEST(EngineCore, AMaskThatThrowsEndsItsRequestAlone) {
  struct Broken final : TokenMask {
    void restrict(std::vector<std::uint32_t>&) override { throw std::runtime_error("grammar is stuck"); }
    void accept(std::int32_t) override {}
    std::shared_ptr<TokenMask> clone() const override { return std::make_shared<Broken>(); }
  };
  Harness h(64, 4, limits_of(2, 16), 64);
  Request bad = make_request(6, 10, 1);
  bad.mask = std::make_shared<Broken>();
  const Request good = make_request(6, 10, 2);
  auto bad_channel = h.submit(bad);
  auto good_channel = h.submit(good);
  h.run_until_idle();
  EXPECT_EQ(read_arrived(*bad_channel)[0].error, "grammar is stuck");
  EXPECT_EQ(read_arrived(*good_channel)[0], run_alone(good, 0, 64));
}

// Allows one token at each place, counting from `first`, so that a mask that followed two samples would show.
class Counting final : public TokenMask {
 public:
  explicit Counting(std::int32_t first) : first_(first), next_(first) {}
  void restrict(std::vector<std::uint32_t>& allowed) override {
    std::fill(allowed.begin(), allowed.end(), 0u);
    allowed[static_cast<std::size_t>(next_ / 32)] = 1u << (next_ % 32);
  }
  void accept(std::int32_t token) override {
    ASSERT_EQ(token, next_);
    ++next_;
  }
  std::shared_ptr<TokenMask> clone() const override { return std::make_shared<Counting>(first_); }

 private:
  std::int32_t first_, next_;
};

TEST(EngineCore, EverySampleFollowsAMaskOfItsOwn) {
  Harness h(16, 4, limits_of(4, 16), 40);  // too few blocks for all: some are preempted and recomputed
  Request request = make_request(6, 20, 1);
  request.n = 4;
  request.sampling.ignore_eos = true;
  request.mask = std::make_shared<Counting>(9);
  auto channel = h.submit(request);
  h.run_until_idle();
  std::vector<std::int32_t> expected(20);
  std::iota(expected.begin(), expected.end(), 9);
  for (const Answer& answer : read_arrived(*channel)) EXPECT_EQ(answer.tokens, expected);
}

TEST(EngineCore, AMaskThatAllowsNothingFailsItsSampleWithAReason) {
  struct Nothing final : TokenMask {
    void restrict(std::vector<std::uint32_t>& allowed) override { std::fill(allowed.begin(), allowed.end(), 0u); }
    void accept(std::int32_t) override { FAIL(); }
    std::shared_ptr<TokenMask> clone() const override { return std::make_shared<Nothing>(); }
  };
  Harness h(64, 4, limits_of(2, 16), 64);
  Request request = make_request(6, 10, 1);
  request.mask = std::make_shared<Nothing>();
  auto channel = h.submit(request);
  h.run_until_idle();
  const Answer answer = read_arrived(*channel)[0];
  EXPECT_EQ(answer.finish, FinishReason::failed);
  EXPECT_NE(answer.error.find("no token is allowed next"), std::string::npos);
}

// Log-softmax in double.
double exact_logprob(const std::vector<float>& logits, std::int32_t token) {
  double sum = 0;
  for (float x : logits) sum += std::exp(static_cast<double>(x));
  return logits[static_cast<std::size_t>(token)] - std::log(sum);
}

void expect_prompt_scores(const RequestChannel& channel, int alternatives) {
  const std::vector<std::int32_t>& prompt = channel.request().prompt;
  const std::vector<TokenEvent>& scores = channel.prompt_logprobs();
  ASSERT_EQ(scores.size(), prompt.size());
  for (std::size_t i = 0; i < prompt.size(); ++i) {
    EXPECT_EQ(scores[i].token, prompt[i]);
    EXPECT_EQ(scores[i].top.size(), i == 0 ? 0u : static_cast<std::size_t>(alternatives));
    if (i == 0) continue;
    const std::vector<float> logits = testing::fake_logits(std::span(prompt).first(i));
    EXPECT_NEAR(scores[i].logprob, exact_logprob(logits, prompt[i]), 1e-5);
  }
}

TEST(EngineCore, PromptScoresAreThoseOfEachToken) {
  for (int extra_rows : {1, 3, 100}) {
    for (int n : {1, 3}) {
      for (int prompt : {1, 3, 19}) {  // 3: no block to share, so all samples prefill at once
        Harness h(64, 4, limits_of(4, 16, extra_rows), 64);
        Request request = make_request(prompt, 4, 21);
        request.n = n;
        request.sampling.prompt_logprobs = 2;
        auto channel = h.submit(request);
        h.run_until_idle();
        SCOPED_TRACE(::testing::Message() << "rows " << extra_rows << " n " << n << " prompt " << prompt);
        expect_prompt_scores(*channel, 2);
        const std::vector<Answer> answers = read_arrived(*channel);
        for (int i = 0; i < n; ++i)
          EXPECT_EQ(answers[static_cast<std::size_t>(i)].tokens, run_alone(request, i, 64).tokens);
      }
    }
  }
}

TEST(EngineCore, PromptScoresSurviveCancellingTheSampleThatMadeThem) {
  Harness h(64, 4, limits_of(4, 8, 2), 64);
  Request request = make_request(21, 4, 21);
  request.n = 2;
  request.sampling.prompt_logprobs = 0;
  auto channel = h.submit(request);
  h.step();
  h.step();
  h.cancel(*channel, 0);
  h.run_until_idle();
  expect_prompt_scores(*channel, 0);
}

TEST(EngineCore, PromptScoresAreThereWhenTheFirstTokenArrives) {
  Harness h(64, 4, limits_of(4, 64, 64), 64);
  Request request = make_request(21, 4, 21);
  request.sampling.prompt_logprobs = 0;
  auto channel = h.submit(request);
  h.step();
  ASSERT_EQ(read_arrived(*channel)[0].tokens.size(), 1u);
  EXPECT_EQ(channel->prompt_logprobs().size(), 21u);
}

TEST(EngineCore, LengthDependentRopeSurvivesPreemption) {
  SchedulerLimits limits = limits_of(4, 16);
  limits.rope_threshold = 10;
  const auto run = [&](std::int64_t blocks, std::int64_t& preemptions) {
    Harness h(blocks, 4, limits, 48);
    h.model.length_dependent = true;
    std::vector<std::shared_ptr<RequestChannel>> channels;
    for (std::uint64_t i = 0; i < 5; ++i) {
      Request request = make_request(6 + static_cast<int>(i) * 3, 24, 30 + i);
      request.sampling.ignore_eos = true;
      channels.push_back(h.submit(request));
    }
    h.run_until_idle();
    preemptions = h.core.stats().preemptions;
    std::vector<Answer> answers;
    for (const auto& channel : channels) answers.push_back(read_arrived(*channel)[0]);
    return answers;
  };
  std::int64_t none = 0, some = 0;
  const std::vector<Answer> roomy = run(100, none);
  const std::vector<Answer> tight = run(12, some);
  EXPECT_EQ(none, 0);
  EXPECT_GT(some, 0);
  EXPECT_EQ(roomy, tight);
}

TEST(EngineCore, StatsAddUp) {
  Harness h(64, 4, limits_of(2, 8), 64);
  std::vector<std::shared_ptr<RequestChannel>> channels;
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    Request request = make_request(5, 6, seed);
    request.sampling.ignore_eos = true;
    channels.push_back(h.submit(request));
  }
  EXPECT_EQ(h.core.stats().waiting, 4);  // still in the inbox
  h.step();
  EXPECT_EQ(h.core.stats().running, 2);
  EXPECT_EQ(h.core.stats().waiting, 2);
  h.run_until_idle();
  const EngineStats stats = h.core.stats();
  EXPECT_EQ(stats.running + stats.waiting + stats.blocks_used, 0);
  EXPECT_EQ(stats.blocks_total, 64);
  EXPECT_EQ(stats.finished, 4);
  EXPECT_EQ(stats.prompt_tokens, 20);
  EXPECT_EQ(stats.generated_tokens, 24);
  EXPECT_EQ(stats.steps, h.model.steps);
}

TEST(EngineCore, EndAllReachesTheInboxToo) {
  Harness h(64, 4, limits_of(2, 8), 64);
  auto running = h.submit(make_request(5, 60, 1));
  h.step();
  auto pending = h.submit(make_request(5, 60, 2));
  h.core.end_all(FinishReason::cancelled, {});
  EXPECT_TRUE(h.core.idle());
  EXPECT_EQ(read_arrived(*running)[0].finish, FinishReason::cancelled);
  EXPECT_EQ(read_arrived(*pending)[0].finish, FinishReason::cancelled);
}

TEST(EngineCore, TheWaitingLineMovesOn) {
  Inbox inbox(2);
  SchedulerLimits limits = limits_of(1, 8);
  testing::FakeModel model(16, 4, limits);
  EngineCore core(Harness::config(16, 4, limits, 64), model, inbox);
  const auto submit = [&](std::uint64_t seed) {
    auto channel = std::make_shared<RequestChannel>(make_request(5, 6, seed), seed);
    inbox.submit(channel);
    return channel;
  };
  auto first = submit(1);
  auto second = submit(2);
  EXPECT_THROW(submit(3), Error);
  core.step();  // the first runs now
  auto third = submit(3);
  EXPECT_THROW(submit(4), Error);
  second->request_cancel(-1);
  inbox.announce_cancel();
  core.step();  // the second left without running
  submit(4);
}

}  // namespace
}  // namespace bittern::engine
