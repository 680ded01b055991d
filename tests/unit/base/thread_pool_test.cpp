// ThreadPool: every task once, worker numbers, nesting, exceptions, turns of several callers, sleeping workers.
#include "base/thread_pool.h"

#include <bittern/error.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <numeric>
#include <set>
#include <stdexcept>

namespace bittern {
namespace {

class ThreadPoolSizes : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Sizes, ThreadPoolSizes, testing::Values(1, 2, 3, 8));

TEST_P(ThreadPoolSizes, RunsEveryTaskOnceOnAValidWorker) {
  ThreadPool pool(GetParam());
  for (int n : {0, 1, 2, 3, 7, 64, 1000}) {
    std::vector<std::atomic<int>> runs(static_cast<size_t>(n));
    std::atomic<bool> valid{true};
    pool.parallel_for(n, [&](int task, int worker) {
      runs[static_cast<size_t>(task)].fetch_add(1);
      if (worker < 0 || worker >= pool.size()) valid = false;
    });
    for (const auto& count : runs) ASSERT_EQ(count.load(), 1) << n;
    EXPECT_TRUE(valid);
  }
}

TEST_P(ThreadPoolSizes, ManyShortJobsInARow) {
  ThreadPool pool(GetParam());
  // Plain ints, written by task and read after the call: ThreadSanitizer checks that the call orders them.
  std::vector<int> sums(5, 0);
  for (int job = 0; job < 20000; ++job) {
    pool.parallel_for(5, [&](int task, int) { sums[static_cast<size_t>(task)] += job; });
  }
  for (int sum : sums) EXPECT_EQ(sum, 199990000);
}

TEST_P(ThreadPoolSizes, JobsAfterWorkersHaveParked) {
  ThreadPool pool(GetParam());
  for (int round = 0; round < 20; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    int total = 0;
    std::mutex mutex;
    pool.parallel_for(16, [&](int task, int) {
      const std::lock_guard<std::mutex> lock(mutex);
      total += task;
    });
    EXPECT_EQ(total, 120);
  }
}

TEST_P(ThreadPoolSizes, NoTwoTasksOnOneWorkerAtOnce) {
  ThreadPool pool(GetParam());
  std::vector<std::atomic<int>> busy(static_cast<size_t>(pool.size()));
  std::atomic<int> clashes{0};
  pool.parallel_for(200, [&](int, int worker) {
    if (busy[static_cast<size_t>(worker)].fetch_add(1) != 0) ++clashes;
    std::this_thread::yield();
    busy[static_cast<size_t>(worker)].fetch_sub(1);
  });
  EXPECT_EQ(clashes.load(), 0);
}

TEST_P(ThreadPoolSizes, NestedCallsRunInlineOnTheSameWorker) {
  ThreadPool pool(GetParam());
  std::atomic<int> inner{0};
  std::atomic<bool> same{true};
  pool.parallel_for(6, [&](int, int worker) {
    pool.parallel_for(4, [&](int, int nested) {
      if (nested != worker) same = false;
      ++inner;
    });
  });
  EXPECT_EQ(inner.load(), 24);
  EXPECT_TRUE(same);
}

TEST(ThreadPool, NestsThroughAnotherPoolAndBack) {
  ThreadPool a(2), b(2);
  std::atomic<int> runs{0};
  a.parallel_for(2, [&](int, int) {
    // On the thread that called b this is a call from within a, found through b; b's own worker is no part of a.
    const std::thread::id caller = std::this_thread::get_id();
    b.parallel_for(2, [&](int, int) {
      if (std::this_thread::get_id() == caller) a.parallel_for(1, [&](int, int) {});
      ++runs;
    });
    a.parallel_for(3, [&](int, int) { ++runs; });
  });
  EXPECT_EQ(runs.load(), 2 * 2 + 2 * 3);
}

TEST_P(ThreadPoolSizes, RethrowsTheFirstExceptionAndStaysUsable) {
  ThreadPool pool(GetParam());
  for (int round = 0; round < 50; ++round) {
    try {
      pool.parallel_for(10, [&](int task, int) {
        if (task == 3) throw std::runtime_error("task three");
      });
      FAIL() << "no exception";
    } catch (const std::runtime_error& error) {
      EXPECT_STREQ(error.what(), "task three");
    }
    std::atomic<int> runs{0};
    pool.parallel_for(10, [&](int, int) { ++runs; });
    ASSERT_EQ(runs.load(), 10);
  }
}

TEST_P(ThreadPoolSizes, CallersTakeTurns) {
  ThreadPool pool(GetParam());
  int shared = 0;  // tasks of one call write it one after the other; calls must not overlap
  std::atomic<bool> overlapped{false};
  std::atomic<int> active_calls{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 3; ++c) {
    callers.emplace_back([&] {
      for (int i = 0; i < 500; ++i) {
        std::atomic<bool> first{true};
        pool.parallel_for(3, [&](int, int) {
          if (first.exchange(false)) {
            if (active_calls.fetch_add(1) != 0) overlapped = true;
            ++shared;
            active_calls.fetch_sub(1);
          }
        });
      }
    });
  }
  for (auto& caller : callers) caller.join();
  EXPECT_FALSE(overlapped);
  EXPECT_EQ(shared, 1500);
}

TEST_P(ThreadPoolSizes, RangesCoverWithoutOverlapAtMultiplesOfTheGrain) {
  ThreadPool pool(GetParam());
  for (int64_t count : {0, 1, 31, 32, 33, 100, 1024}) {
    std::vector<std::atomic<int>> hits(static_cast<size_t>(count));
    std::atomic<bool> aligned{true};
    pool.parallel_ranges(count, 32, [&](int64_t begin, int64_t end, int) {
      if (begin % 32 != 0 || (end % 32 != 0 && end != count) || begin >= end) aligned = false;
      for (int64_t i = begin; i < end; ++i) hits[static_cast<size_t>(i)]++;
    });
    for (const auto& hit : hits) ASSERT_EQ(hit.load(), 1);
    EXPECT_TRUE(aligned) << count;
  }
}

TEST(ThreadPool, UsesAllItsWorkers) {
  ThreadPool pool(3);
  std::set<int> workers;
  std::mutex mutex;
  // Tasks that block until others have begun can only end when several workers run.
  std::atomic<int> begun{0};
  pool.parallel_for(3, [&](int, int worker) {
    ++begun;
    while (begun < 3) std::this_thread::yield();
    const std::lock_guard<std::mutex> lock(mutex);
    workers.insert(worker);
  });
  EXPECT_EQ(workers, (std::set<int>{0, 1, 2}));
}

TEST(ThreadPool, RefusesImpossibleSizes) {
  EXPECT_THROW(ThreadPool(0), Error);
  EXPECT_THROW(ThreadPool(-1), Error);
  EXPECT_THROW(ThreadPool(ThreadPool::kMaxSize + 1), Error);
}

TEST(ThreadPool, DefaultSizeFollowsTheEnvironment) {
  setenv("BITTERN_THREADS", "5", 1);
  EXPECT_EQ(ThreadPool::default_size(), 5);
  for (const char* bad : {"0", "-2", "two", "3x", "99999"}) {
    setenv("BITTERN_THREADS", bad, 1);
    EXPECT_THROW(ThreadPool::default_size(), Error) << bad;
  }
  unsetenv("BITTERN_THREADS");
  EXPECT_GE(ThreadPool::default_size(), 1);
}

}  // namespace
}  // namespace bittern
