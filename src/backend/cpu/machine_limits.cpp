// Loops of kernels/limits*.cpp on every thread at once, and a clock.
#include "backend/cpu/machine_limits.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>

#include "base/buffer.h"
#include "base/function_ref.h"

namespace bittern::cpu {
namespace {

constexpr std::size_t kReadBytes = std::size_t{1} << 30;
constexpr int kRepeats = 7;
constexpr double kRepeatSeconds = 0.05;  // of arithmetic: long beside the waking of a thread

double seconds_of(FunctionRef<void()> work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double best_seconds(FunctionRef<void()> work) {
  double best = seconds_of(work);
  for (int i = 0; i < kRepeats; ++i) best = std::min(best, seconds_of(work));
  return best;
}

double arithmetic_rate(ThreadPool& pool, float (*run)(Index), Index operations) {
  std::atomic<float> sink = 0;  // of all threads
  const auto on_all = [&](Index rounds) {
    return seconds_of([&] { pool.parallel_for(pool.size(), [&](int, int) { sink = run(rounds); }); });
  };
  Index rounds = 10000;
  while (on_all(rounds) < kRepeatSeconds) rounds *= 2;
  double best = on_all(rounds);
  for (int i = 0; i < kRepeats; ++i) best = std::min(best, on_all(rounds));
  return static_cast<double>(rounds * operations * pool.size()) / best;
}

}  // namespace

double ArithmeticLimits::best() const { return std::max({f32, bf16, int8}); }

std::vector<StreamRate> measure_read(ThreadPool& pool, IsaLevel isa) {
  AlignedBuffer memory(kReadBytes, AlignedBuffer::Pages::huge);
  std::memset(memory.data(), 1, kReadBytes);
  const float* data = reinterpret_cast<const float*>(memory.data());
  const Index floats = static_cast<Index>(kReadBytes / sizeof(float)) / pool.size() / 1024 * 1024;
  std::atomic<float> sink = 0;  // of all threads
  std::vector<StreamRate> rates;
  for (const int streams : {1, 2, 4, 8}) {
    const double t = best_seconds([&] {
      pool.parallel_for(pool.size(), [&](int task, int) {
        sink = kernel_table(isa).limit.read_memory(data + task * floats, floats, streams);
      });
    });
    rates.push_back({streams, static_cast<double>(floats) * sizeof(float) * pool.size() / t});
  }
  return rates;
}

ArithmeticLimits measure_arithmetic(ThreadPool& pool, IsaLevel isa) {
  ArithmeticLimits limits;
  const LimitTable& table = kernel_table(isa).limit;
  limits.f32 = arithmetic_rate(pool, table.multiply_add, table.flops_per_round);
#if defined(__x86_64__)
  if (isa >= IsaLevel::avx512vnni) {
    limits.int8 = arithmetic_rate(pool, int8_dot_limit()->run, int8_dot_limit()->operations_per_round);
  }
  if (isa >= IsaLevel::avx512bf16) {
    limits.bf16 = arithmetic_rate(pool, bf16_dot_limit()->run, bf16_dot_limit()->operations_per_round);
  }
#endif
  return limits;
}

}  // namespace bittern::cpu
