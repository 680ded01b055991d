// The engine under threads: many clients submit, read, cancel and vanish at once. Meant for ThreadSanitizer as well.
#include "engine/threaded_engine.h"

#include <bittern/error.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <set>
#include <thread>

#include "fake_model.h"
#include "support/expect_error.h"

namespace bittern::engine {
namespace {

using namespace std::chrono_literals;
using testing::Answer;
using testing::FakeModel;
using testing::Harness;
using testing::make_request;
using testing::run_alone;

constexpr std::int64_t kContext = 64;

struct Options {
  std::int64_t blocks = 40;
  int max_queued = 1000;
  std::chrono::microseconds step_time{0};
  double stall_seconds = 0;
  std::function<void(const std::string&)> on_stall = nullptr;
};

std::unique_ptr<ThreadedEngine> make(const Options& options = {}) {
  SchedulerLimits limits;
  limits.max_sequences = 6;
  limits.max_step_tokens = 16;
  limits.max_logit_rows = 10;
  limits.prefix_cache = true;
  auto model = std::make_unique<FakeModel>(options.blocks, 4, limits);
  if (options.step_time.count() > 0) model->before_step = [t = options.step_time] { std::this_thread::sleep_for(t); };
  MemoryPlan plan;
  plan.context = kContext;
  EngineOptions engine;
  engine.max_queued = options.max_queued;
  engine.stall_seconds = options.stall_seconds;
  engine.on_stall = options.on_stall;
  return std::make_unique<ThreadedEngine>(Harness::config(options.blocks, 4, limits, kContext), std::move(model), plan,
                                          engine);
}

std::vector<Answer> read_all(TokenStream& stream, int n) {
  std::vector<Answer> answers(static_cast<std::size_t>(n));
  while (auto event = stream.next()) {
    Answer& answer = answers[static_cast<std::size_t>(event->sample)];
    if (event->token >= 0) {
      answer.tokens.push_back(event->token);
      answer.logprobs.push_back(event->logprob);
    }
    answer.finish = event->finish;
    answer.stop_token = event->stop_token;
    answer.error = event->error;
  }
  return answers;
}

TEST(ThreadedEngine, ALongStepIsReportedOnceAndShown) {
  std::promise<std::string> said;
  Options options;
  options.step_time = 100ms;
  options.stall_seconds = 0.02;
  std::atomic<int> calls{0};
  options.on_stall = [&](const std::string& message) {
    if (calls++ == 0) said.set_value(message);
  };
  const auto engine = make(options);
  const auto stream = engine->submit(make_request(5, 1, 3));
  EXPECT_NE(said.get_future().get().find("5 tokens of 1 sequences"), std::string::npos);
  read_all(*stream, 1);
  EXPECT_EQ(engine->stats().stalls, 1);  // though the watchdog looked many times
}

TEST(ThreadedEngine, TellsHowFarARequestHasCome) {
  const auto engine = make();
  const auto before = RequestProgress::Clock::now();
  const Request request = make_request(30, 3, 5);
  const auto stream = engine->submit(request);
  read_all(*stream, 1);
  const RequestProgress progress = stream->progress();
  EXPECT_GE(progress.queued, before);
  ASSERT_TRUE(progress.scheduled && progress.first_token);
  EXPECT_GE(*progress.scheduled, progress.queued);
  EXPECT_GE(*progress.first_token, *progress.scheduled);
  EXPECT_EQ(progress.cached_tokens, 0);
  const auto again = engine->submit(request);
  read_all(*again, 1);
  EXPECT_EQ(again->progress().cached_tokens, 28);  // seven blocks of four, never the one with the last token
  EXPECT_EQ(engine->stats().prefix_hits, 28);
  EXPECT_EQ(engine->stats().prefix_queries, 60);
}

Request endless(std::uint64_t seed) {
  Request request = make_request(5, 50, seed);
  request.sampling.ignore_eos = true;
  return request;
}

TEST(ThreadedEngine, AnswersAsThePlainLoopDoes) {
  auto engine = make();
  Request request = make_request(9, 20, 3);
  request.n = 3;
  auto stream = engine->submit(request);
  EXPECT_EQ(stream->seed(), 3u);
  const std::vector<Answer> answers = read_all(*stream, 3);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(answers[static_cast<std::size_t>(i)], run_alone(request, i, kContext));
  EXPECT_FALSE(stream->next().has_value());
}

TEST(ThreadedEngine, DrawsAndReportsASeedThatRepeatsTheAnswer) {
  auto engine = make();
  Request request = make_request(9, 20, 3);
  request.sampling.seed.reset();
  auto first = engine->submit(request);
  auto other = engine->submit(request);
  EXPECT_NE(first->seed(), other->seed());
  request.sampling.seed = first->seed();
  auto again = engine->submit(request);
  EXPECT_EQ(read_all(*first, 1), read_all(*again, 1));
}

TEST(ThreadedEngine, RefusesAtSubmit) {
  auto engine = make();
  Request request = make_request(9, 20, 3);
  request.sampling.top_p = 2.0;
  EXPECT_ERROR(ErrorCode::invalid_argument, "top_p", engine->submit(request));
  EXPECT_ERROR(ErrorCode::invalid_argument, "at most 63", engine->submit(make_request(64, 1, 3)));
}

TEST(ThreadedEngine, OverloadIsRefusedAndPasses) {
  auto engine = make({.max_queued = 2, .step_time = 2ms});
  std::vector<std::unique_ptr<TokenStream>> streams;
  bool refused = false;
  for (std::uint64_t i = 0; i < 20 && !refused; ++i) {
    try {
      streams.push_back(engine->submit(endless(i)));
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::overloaded);
      refused = true;
    }
  }
  EXPECT_TRUE(refused);
  for (auto& stream : streams) EXPECT_EQ(read_all(*stream, 1)[0].tokens.size(), 50u);
  EXPECT_NO_THROW(engine->submit(endless(1)));
}

TEST(ThreadedEngine, NextForTellsATimeoutFromTheEnd) {
  auto engine = make({.step_time = 20ms});
  auto stream = engine->submit(make_request(5, 1, 1));
  bool timed_out = false;
  EXPECT_FALSE(stream->next_for(1ms, timed_out).has_value());
  EXPECT_TRUE(timed_out);
  while (stream->next_for(10s, timed_out).has_value()) EXPECT_FALSE(timed_out);
  EXPECT_FALSE(timed_out);
}

TEST(ThreadedEngine, CancelEndsTheStream) {
  auto engine = make({.step_time = 1ms});
  auto stream = engine->submit(endless(1));
  stream->next();
  stream->cancel();
  const Answer answer = read_all(*stream, 1)[0];
  EXPECT_EQ(answer.finish, FinishReason::cancelled);
  EXPECT_ERROR(ErrorCode::invalid_argument, "sample 1", stream->cancel(1));
}

TEST(ThreadedEngine, DestroyingAStreamCancelsItsRequest) {
  auto engine = make({.step_time = 1ms});
  {
    auto stream = engine->submit(endless(1));
    stream->next();
  }
  for (int i = 0; i < 2000 && engine->stats().cancelled == 0; ++i) std::this_thread::sleep_for(1ms);
  EXPECT_EQ(engine->stats().cancelled, 1);
  EXPECT_EQ(engine->stats().blocks_used, 0);
}

TEST(ThreadedEngine, DestroyingTheEngineEndsEveryStream) {
  auto engine = make({.step_time = 1ms});
  std::vector<std::unique_ptr<TokenStream>> streams;
  for (std::uint64_t i = 0; i < 20; ++i) streams.push_back(engine->submit(endless(i)));
  std::thread reader([&] { EXPECT_EQ(read_all(*streams[19], 1)[0].finish, FinishReason::cancelled); });
  streams[0]->next();
  engine.reset();
  reader.join();
  for (std::size_t i = 0; i < 19; ++i) EXPECT_EQ(read_all(*streams[i], 1)[0].finish, FinishReason::cancelled);
}

TEST(ThreadedEngine, ManyClientsAtOnce) {
  auto engine = make({.blocks = 18});  // barely more than one whole context: constant preemption
  std::atomic<std::int64_t> ended{0};
  const auto client = [&](std::uint64_t id) {
    Random random(id);
    for (std::uint64_t i = 0; i < 25; ++i) {
      Request request = make_request(1 + static_cast<int>(random.next_below(30)),
                                     1 + static_cast<int>(random.next_below(30)), id * 100 + i);
      request.n = 1 + static_cast<int>(random.next_below(3));
      request.priority = static_cast<int>(random.next_below(2));
      auto stream = engine->submit(request);
      engine->stats();
      ended += request.n;
      switch (random.next_below(4)) {
        case 0: stream.reset(); break;
        case 1:
          stream->next();
          stream->cancel();
          read_all(*stream, request.n);
          break;
        default: {
          const std::vector<Answer> answers = read_all(*stream, request.n);
          for (int s = 0; s < request.n; ++s) {
            ASSERT_EQ(answers[static_cast<std::size_t>(s)], run_alone(request, s, kContext));
          }
        }
      }
    }
  };
  std::vector<std::thread> threads;
  for (std::uint64_t id = 1; id <= 6; ++id) threads.emplace_back(client, id);
  for (std::thread& thread : threads) thread.join();
  const auto all_ended = [&] {
    const EngineStats s = engine->stats();
    return s.finished + s.cancelled + s.failed == ended;
  };
  for (int i = 0; i < 5000 && !all_ended(); ++i) std::this_thread::sleep_for(1ms);
  const EngineStats stats = engine->stats();
  EXPECT_TRUE(all_ended());
  EXPECT_EQ(stats.failed, 0);
  EXPECT_EQ(stats.running + stats.waiting + stats.blocks_used, 0);
}

}  // namespace
}  // namespace bittern::engine
