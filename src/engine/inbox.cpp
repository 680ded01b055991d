// One mutex and one condition; the engine thread empties it with a swap.
#include "engine/inbox.h"

#include <bittern/error.h>
#include <fmt/core.h>

#include <utility>

namespace bittern::engine {

namespace {

std::int64_t prompt_tokens(const RequestChannel& request) {
  return static_cast<std::int64_t>(request.request().prompt.size());
}

}  // namespace

Inbox::Inbox(int max_waiting, std::int64_t max_tokens) : max_waiting_(max_waiting), max_tokens_(max_tokens) {}

void Inbox::submit(std::shared_ptr<RequestChannel> request) {
  {
    const std::lock_guard lock(mutex_);
    if (closed_) throw Error(ErrorCode::cancelled, "the engine is shutting down");
    if (waiting_ >= max_waiting_) {
      throw Error(ErrorCode::overloaded, fmt::format("{} requests are already waiting", waiting_),
                  "try again later, or raise max_queued");
    }
    const std::int64_t tokens = prompt_tokens(*request);
    if (max_tokens_ > 0 && waiting_ > 0 && waiting_tokens_ + tokens > max_tokens_) {
      throw Error(ErrorCode::overloaded,
                  fmt::format("{} requests with {} prompt tokens are already waiting", waiting_, waiting_tokens_),
                  "try again later, or raise max_queued_tokens");
    }
    submitted_.push_back(std::move(request));
    ++waiting_;
    waiting_tokens_ += tokens;
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

std::int64_t Inbox::waiting_tokens() const {
  const std::lock_guard lock(mutex_);
  return waiting_tokens_;
}

void Inbox::leave_line(int requests, std::int64_t tokens) {
  const std::lock_guard lock(mutex_);
  waiting_ -= requests;
  waiting_tokens_ -= tokens;
}

}  // namespace bittern::engine
