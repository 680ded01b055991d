// What is counted and refused; how fast a machine is, no test can know. A model that waits a known time in each step
// bounds from above what is timed from submit on.
#include "engine/speed.h"

#include <bittern/error.h>
#include <gtest/gtest.h>

#include <thread>

#include "engine/threaded_engine.h"
#include "fake_model.h"
#include "support/expect_error.h"

namespace bittern::engine {
namespace {

constexpr std::chrono::milliseconds kStep{2};

std::unique_ptr<ThreadedEngine> slow_engine() {
  SchedulerLimits limits;
  limits.max_sequences = 4;
  limits.max_step_tokens = 8;
  limits.max_logit_rows = 8;
  auto model = std::make_unique<testing::FakeModel>(64, 4, limits);
  model->before_step = [] { std::this_thread::sleep_for(kStep); };
  MemoryPlan plan;
  plan.context = 64;
  return std::make_unique<ThreadedEngine>(testing::Harness::config(64, 4, limits, 64), std::move(model), plan,
                                          EngineOptions{});
}

SpeedOptions options(int prompt, int output, int sequences) {
  SpeedOptions result;
  result.prompt = prompt;
  result.output = output;
  result.sequences = sequences;
  return result;
}

TEST(Speed, NoRateExceedsWhatTheStepsAllow) {
  auto engine = slow_engine();
  int reports = 0;
  SpeedOptions wanted = options(16, 10, 4);
  wanted.progress = [&](int done, int total) {
    EXPECT_EQ(done, reports++);
    EXPECT_EQ(total, 6);
  };
  const Speed speed = measure_speed(*engine, testing::kVocab, wanted);
  const double steps_per_second = 1 / std::chrono::duration<double>(kStep).count();
  EXPECT_GT(speed.prefill, 0);
  EXPECT_LE(speed.prefill, 8 * steps_per_second) << "8 prompt tokens a step";
  EXPECT_GT(speed.decode, 0);
  EXPECT_GT(speed.batched, 0);
  EXPECT_LE(speed.batched, 4 * steps_per_second * 1.0001) << "4 sequences a step";
  EXPECT_EQ(reports, 6);
  EXPECT_EQ(engine->stats().generated_tokens, 2 + 3 * 10 + 3 * 4 * 10);
}

TEST(Speed, RefusesWhatTheContextCannotHold) {
  auto engine = slow_engine();
  EXPECT_ERROR(ErrorCode::invalid_argument, "60 prompt and 5 output tokens do not fit a context of 64",
               measure_speed(*engine, testing::kVocab, options(60, 5, 1)));
}

TEST(Speed, RefusesOptionsOutOfRange) {
  auto engine = slow_engine();
  EXPECT_ERROR(ErrorCode::invalid_argument, "at least 1 token", measure_speed(*engine, 4, options(0, 5, 1)));
  EXPECT_ERROR(ErrorCode::invalid_argument, "at least 2 tokens", measure_speed(*engine, 4, options(4, 1, 1)));
  EXPECT_ERROR(ErrorCode::invalid_argument, "at least 1", measure_speed(*engine, 4, options(4, 4, 0)));
}

TEST(Speed, StopsWhenItsProgressThrows) {
  auto engine = slow_engine();
  SpeedOptions wanted = options(4, 4, 1);
  wanted.progress = [](int, int) { throw Error(ErrorCode::cancelled, "enough"); };
  EXPECT_ERROR(ErrorCode::cancelled, "enough", measure_speed(*engine, testing::kVocab, wanted));
}

}  // namespace
}  // namespace bittern::engine
