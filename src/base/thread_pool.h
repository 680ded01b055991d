// ThreadPool: a fixed set of threads that share out the tasks of one parallel_for at a time. Made for a forward pass,
// which calls it some 200 times per token: workers spin for a moment after each job before they park, so that the next
// one starts within about a microsecond, and a call allocates nothing.
// It has no futures, priorities or task graphs; whoever needs a background thread starts a std::thread.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/function_ref.h"

namespace bittern {

class ThreadPool {
 public:
  /// Called as fn(task, worker): task in [0, n_tasks), worker in [0, size()) tells which thread runs it, so that each
  /// can have its own scratch memory. Two tasks never run on one worker at once.
  using Task = FunctionRef<void(int task, int worker)>;

  /// `size` counts the thread that calls parallel_for, which is worker 0; size - 1 threads are started.
  /// Throws Error(invalid_argument) when size is not in [1, kMaxSize].
  explicit ThreadPool(int size = default_size());
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  static constexpr int kMaxSize = 1024;
  /// BITTERN_THREADS when it is set (a bad value is an Error that names it), else usable_cores().
  static int default_size();

  int size() const noexcept { return size_; }

  /// Runs fn for every task and returns when all are done. Each worker first takes the tasks of its own contiguous
  /// share, always the same one (so its data stays in its cache), then what others have not begun: a worker that the
  /// system has not woken in time delays nothing. Results must therefore not depend on which worker runs a task.
  /// A call from inside a task of this pool runs inline. Calls from several threads take turns. The first exception
  /// of a task is rethrown here; tasks not begun by then are skipped.
  void parallel_for(int n_tasks, Task fn);

  /// Splits [0, count) into at most size() ranges whose bounds are multiples of `grain` (the last excepted) and calls
  /// fn(begin, end, worker) for each.
  template <class F>
  void parallel_ranges(int64_t count, int64_t grain, F&& fn) {
    const int64_t units = (count + grain - 1) / grain;
    const int64_t parts = units < size_ ? units : size_;
    parallel_for(static_cast<int>(parts), [&](int part, int worker) {
      const int64_t begin = units * part / parts * grain;
      const int64_t end = units * (part + 1) / parts * grain;
      fn(begin, end < count ? end : count, worker);
    });
  }

 private:
  // A worker's share of the tasks; others take from it too. One cache line each, so that taking does not collide.
  struct alignas(64) Share {
    std::atomic<int> next{0};
    int end = 0;
  };

  void run_worker(int worker);
  bool join_job(uint32_t& job);
  void leave_job();
  void work(int worker);
  void take_tasks(int worker);
  void publish(int n_tasks, const Task& fn);
  void wait_for_workers();
  void run_inline(int n_tasks, const Task& fn, int worker);

  const int size_;
  const std::chrono::microseconds spin_;
  std::unique_ptr<Share[]> shares_;  // (size)
  std::vector<std::thread> threads_;
  std::mutex caller_;  // held by the thread whose parallel_for is running

  // The job; written by the caller while no worker is inside one.
  alignas(64) const Task* task_ = nullptr;
  std::exception_ptr failure_;
  std::mutex failure_mutex_;
  std::atomic<bool> failed_{false};

  // One word says everything about the current job: its number, whether workers may still join it, and how many are
  // inside. Workers park on it.
  alignas(64) std::atomic<uint32_t> state_{0};
  // Rung whenever the last worker leaves a closed job; the caller parks on it.
  alignas(64) std::atomic<uint32_t> doorbell_{0};
  std::atomic<bool> stop_{false};
};

}  // namespace bittern
