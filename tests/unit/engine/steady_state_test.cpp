// Nothing allocates in a step: operator new is counted while sequences decode. The sanitizers bring their own, so there
// this test is left out.
#include <gtest/gtest.h>

#include <cstdlib>
#include <new>

#include "fake_model.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define BITTERN_COUNTS_ALLOCATIONS 0
#else
#define BITTERN_COUNTS_ALLOCATIONS 1
#endif

namespace {
thread_local long allocations = 0;
}

#if BITTERN_COUNTS_ALLOCATIONS
void* operator new(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
#endif

namespace bittern::engine {
namespace {

/// Constant logits from memory taken once: the fake model itself must not allocate here.
class QuietModel final : public StepRunner {
 public:
  explicit QuietModel(int rows) {
    for (int i = 0; i < rows; ++i) {
      const std::vector<float> row = testing::fake_logits(std::vector<std::int32_t>{i});
      logits_.insert(logits_.end(), row.begin(), row.end());
    }
  }
  std::span<const float> step(const BatchView&, std::span<const std::int32_t> rows) override {
    return std::span(logits_).first(rows.size() * static_cast<std::size_t>(testing::kVocab));
  }
  void read_states(std::int64_t, std::int64_t, std::span<float>) override {}

 private:
  std::vector<float> logits_;
};

TEST(SteadyState, AStepDoesNotAllocate) {
  if (!BITTERN_COUNTS_ALLOCATIONS) GTEST_SKIP() << "sanitizers replace operator new";
  SchedulerLimits limits{.max_sequences = 4, .max_step_tokens = 16, .max_logit_rows = 8};
  Inbox inbox(10);
  QuietModel model(8);
  EngineCore core(testing::Harness::config(200, 4, limits, 200), model, inbox);
  std::vector<std::shared_ptr<RequestChannel>> channels;
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    Request request = testing::make_request(5, 150, seed);
    request.sampling.ignore_eos = true;
    request.sampling.top_k = seed == 1 ? 5 : 0;
    request.sampling.top_p = seed == 2 ? 0.8 : 1.0;
    request.sampling.repetition_penalty = seed == 3 ? 1.2 : 1.0;
    channels.push_back(std::make_shared<RequestChannel>(request, seed));
    inbox.submit(channels.back());
  }
  const auto step_and_read = [&] {
    core.step();
    bool timed_out = false;
    for (auto& channel : channels) channel->next(std::chrono::steady_clock::now(), timed_out);
  };
  for (int i = 0; i < 10; ++i) step_and_read();
  const long before = allocations;
  ASSERT_GT(before, 0) << "the counter is not linked in";
  for (int i = 0; i < 100; ++i) step_and_read();
  EXPECT_EQ(allocations - before, 0);
  EXPECT_EQ(core.stats().running, 4);
}

}  // namespace
}  // namespace bittern::engine
