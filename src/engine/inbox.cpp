// One mutex and one condition; the engine thread empties it with a swap.
#include "engine/inbox.h"

#include <bittern/error.h>
#include <fmt/core.h>

#include <utility>

namespace bittern::engine {

Inbox::Inbox(int max_waiting) : max_waiting_(max_waiting) {}

void Inbox::submit(std::shared_ptr<RequestChannel> request) {
  {
    const std::lock_guard lock(mutex_);
    if (closed_) throw Error(ErrorCode::cancelled, "the engine is shutting down");
    if (waiting_ >= max_waiting_) {
      throw Error(ErrorCode::overloaded, fmt::format("{} requests are already waiting", waiting_),
                  "try again later, or raise max_queued");
    }
    submitted_.push_back(std::move(request));
    ++waiting_;
  }
  changed_.notify_one();
}

void Inbox::announce_cancel() {
  {
    const std::lock_guard lock(mutex_);
    cancel_announced_ = true;
  }
  changed_.notify_one();
}

void Inbox::close() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  changed_.notify_one();
}

std::int64_t Inbox::pending_samples() const {
  const std::lock_guard lock(mutex_);
  std::int64_t samples = 0;
  for (const auto& request : submitted_) samples += request->request().n;
  return samples;
}

bool Inbox::wait(bool busy) {
  std::unique_lock lock(mutex_);
  if (!busy) changed_.wait(lock, [this] { return closed_ || cancel_announced_ || !submitted_.empty(); });
  return !closed_;
}

bool Inbox::take(Mail& mail) {
  const std::lock_guard lock(mutex_);
  mail.swap(submitted_);
  return std::exchange(cancel_announced_, false);
}

void Inbox::leave_line(int requests) {
  const std::lock_guard lock(mutex_);
  waiting_ -= requests;
}

}  // namespace bittern::engine
