// The protocol of ThreadPool. The caller publishes a job by writing its fields and then `state_`; workers enter it by
// incrementing the count in `state_`, which works only while the job is open. The caller works along, closes the job
// when no task is left to take, and waits only for those workers that are inside. A worker that was asleep finds the
// job closed and goes back to sleep: nobody waits for it.
#include "base/thread_pool.h"

#include <bittern/error.h>
#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <string_view>

#include "base/sysinfo.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace bittern {
namespace {

// Layout of state_: workers inside (11 bits), open flag, job number (20 bits, wraps).
constexpr uint32_t kInside = (1u << 11) - 1;
constexpr uint32_t kOpen = 1u << 11;
constexpr uint32_t kJobShift = 12;
static_assert(ThreadPool::kMaxSize <= static_cast<int>(kInside));

// Between two operations of a forward pass lie a few microseconds; waking a parked thread costs 5 to 50. Longer spins
// would take the core from whoever else could use it.
constexpr auto kSpin = std::chrono::microseconds(40);

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Waits while condition() is false, for at most about `limit`; returns whether it became true.
template <class Condition>
bool spin_until(std::chrono::microseconds limit, Condition condition) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  do {
    for (int i = 0; i < 32; ++i) {
      if (condition()) return true;
      pause();
    }
  } while (std::chrono::steady_clock::now() < deadline);
  return false;
}

// Which pool's task this thread is running and as which worker; a chain, since a task may call another pool.
struct Inside {
  const ThreadPool* pool;
  int worker;
  const Inside* outer;
};
thread_local const Inside* t_inside = nullptr;

// Marks this thread as a worker while it lives.
class Enter {
 public:
  Enter(const ThreadPool* pool, int worker) : inside_{pool, worker, t_inside} { t_inside = &inside_; }
  ~Enter() { t_inside = inside_.outer; }
  Enter(const Enter&) = delete;
  Enter& operator=(const Enter&) = delete;

 private:
  Inside inside_;
};

// This thread's place in `pool`, or null when it runs none of its tasks.
const Inside* find_inside(const ThreadPool* pool) {
  const Inside* inside = t_inside;
  while (inside != nullptr && inside->pool != pool) inside = inside->outer;
  return inside;
}

}  // namespace

int ThreadPool::default_size() {
  const char* text = std::getenv("BITTERN_THREADS");
  if (text == nullptr || *text == '\0') return std::min(usable_cores(), kMaxSize);
  const std::string_view value = text;
  int size = 0;
  const auto [end, failure] = std::from_chars(value.data(), value.data() + value.size(), size);
  if (failure != std::errc() || end != value.data() + value.size() || size < 1 || size > kMaxSize) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("BITTERN_THREADS is '{}', but must be a number from 1 to {}", value, kMaxSize));
  }
  return size;
}

// With more threads than cores, whoever spins holds up the thread it waits for.
ThreadPool::ThreadPool(int size) : size_(size), spin_(size <= usable_cores() ? kSpin : std::chrono::microseconds(0)) {
  if (size < 1 || size > kMaxSize) {
    throw Error(ErrorCode::invalid_argument, fmt::format("cannot run {} threads: must be 1 to {}", size, kMaxSize));
  }
  shares_ = std::make_unique<Share[]>(static_cast<size_t>(size));
  threads_.reserve(static_cast<size_t>(size - 1));
  for (int worker = 1; worker < size; ++worker) threads_.emplace_back([this, worker] { run_worker(worker); });
}

ThreadPool::~ThreadPool() {
  stop_.store(true, std::memory_order_relaxed);
  state_.fetch_add(1u << kJobShift, std::memory_order_release);  // a closed job: it only wakes
  state_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::parallel_for(int n_tasks, Task fn) {
  if (n_tasks <= 0) return;
  if (const Inside* inside = find_inside(this)) return run_inline(n_tasks, fn, inside->worker);
  const std::lock_guard<std::mutex> turn(caller_);
  if (size_ == 1 || n_tasks == 1) return run_inline(n_tasks, fn, 0);
  publish(n_tasks, fn);
  work(0);
  wait_for_workers();
  if (failed_.load(std::memory_order_relaxed)) {
    failed_.store(false, std::memory_order_relaxed);
    std::rethrow_exception(std::exchange(failure_, nullptr));
  }
}

void ThreadPool::run_inline(int n_tasks, const Task& fn, int worker) {
  const Enter enter(this, worker);
  for (int task = 0; task < n_tasks; ++task) fn(task, worker);
}

// `fn` outlives the job: the caller stays in parallel_for until no worker is inside.
void ThreadPool::publish(int n_tasks, const Task& fn) {
  task_ = &fn;
  for (int worker = 0; worker < size_; ++worker) {
    Share& share = shares_[static_cast<size_t>(worker)];
    share.next.store(static_cast<int>(int64_t{n_tasks} * worker / size_), std::memory_order_relaxed);
    share.end = static_cast<int>(int64_t{n_tasks} * (worker + 1) / size_);
  }
  const uint32_t job = (state_.load(std::memory_order_relaxed) >> kJobShift) + 1;
  state_.store((job << kJobShift) | kOpen, std::memory_order_release);
  state_.notify_all();  // a system call only when someone is parked
}

void ThreadPool::work(int worker) {
  const Enter enter(this, worker);
  try {
    take_tasks(worker);
  } catch (...) {
    const std::lock_guard<std::mutex> lock(failure_mutex_);
    if (!failed_.exchange(true, std::memory_order_relaxed)) failure_ = std::current_exception();
  }
}

// Takes tasks until none is left: first of the own share, then of the others', starting with the next worker's.
void ThreadPool::take_tasks(int worker) {
  const Task& fn = *task_;
  for (int i = 0; i < size_; ++i) {
    Share& share = shares_[static_cast<size_t>((worker + i) % size_)];
    while (share.next.load(std::memory_order_relaxed) < share.end) {
      const int task = share.next.fetch_add(1, std::memory_order_relaxed);
      if (task >= share.end || failed_.load(std::memory_order_relaxed)) break;
      fn(task, worker);
    }
  }
}

void ThreadPool::wait_for_workers() {
  const uint32_t closed = state_.fetch_and(~kOpen, std::memory_order_acq_rel);
  const auto empty = [&] { return (state_.load(std::memory_order_acquire) & kInside) == 0; };
  if ((closed & kInside) == 0 || spin_until(spin_, empty)) return;
  while (true) {
    const uint32_t rung = doorbell_.load(std::memory_order_acquire);
    if (empty()) return;
    doorbell_.wait(rung, std::memory_order_acquire);
  }
}

// Enters the current job if it is open; `job` becomes its number in either case.
bool ThreadPool::join_job(uint32_t& job) {
  uint32_t state = state_.load(std::memory_order_relaxed);
  bool joined = false;
  while (!joined && (state & kOpen) != 0) {
    joined = state_.compare_exchange_weak(state, state + 1, std::memory_order_acquire, std::memory_order_relaxed);
  }
  job = state >> kJobShift;
  return joined;
}

// The last worker to leave a closed job tells the caller.
void ThreadPool::leave_job() {
  const uint32_t before = state_.fetch_sub(1, std::memory_order_acq_rel);
  if ((before & kOpen) != 0 || (before & kInside) != 1) return;
  doorbell_.fetch_add(1, std::memory_order_release);
  doorbell_.notify_one();
}

void ThreadPool::run_worker(int worker) {
  uint32_t done = 0;  // number of the last job this worker has seen
  while (true) {
    const auto is_new = [&] { return state_.load(std::memory_order_acquire) >> kJobShift != done; };
    while (!spin_until(spin_, is_new)) {
      const uint32_t state = state_.load(std::memory_order_acquire);
      if (state >> kJobShift == done) state_.wait(state, std::memory_order_acquire);
    }
    if (stop_.load(std::memory_order_relaxed)) return;
    if (!join_job(done)) continue;
    work(worker);
    leave_job();
  }
}

}  // namespace bittern
