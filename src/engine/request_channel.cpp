// A ring buffer under a mutex; the lock is held for a move of one event at a time.
#include "engine/request_channel.h"

#include <utility>

#include "base/check.h"

namespace bittern::engine {

RequestChannel::RequestChannel(Request request, std::uint64_t seed)
    : request_(std::move(request)),
      seed_(seed),
      ring_(8),
      open_samples_(request_.n),
      cancel_(static_cast<std::size_t>(request_.n)) {
  progress_.queued = RequestProgress::Clock::now();
  if (request_.mask == nullptr) return;
  masks_.push_back(request_.mask);
  for (int i = 1; i < request_.n; ++i) masks_.push_back(request_.mask->clone());
}

std::optional<TokenEvent> RequestChannel::next(std::optional<std::chrono::steady_clock::time_point> deadline,
                                               bool& timed_out) {
  std::unique_lock lock(mutex_);
  const auto ready = [this] { return count_ > 0 || open_samples_ == 0; };
  timed_out = false;
  if (!deadline) {
    arrived_.wait(lock, ready);
  } else if (!arrived_.wait_until(lock, *deadline, ready)) {
    timed_out = true;
    return std::nullopt;
  }
  if (count_ == 0) return std::nullopt;
  --count_;
  return std::move(ring_[head_++ & (ring_.size() - 1)]);
}

const std::vector<TokenEvent>& RequestChannel::prompt_logprobs() const {
  static const std::vector<TokenEvent> kNone;
  const std::lock_guard lock(mutex_);
  return published_ ? prompt_logprobs_ : kNone;
}

void RequestChannel::request_cancel(int sample) {
  const std::lock_guard lock(mutex_);
  for (int i = 0; i < request_.n; ++i) {
    if (sample < 0 || sample == i) cancel_[static_cast<std::size_t>(i)] = true;
  }
}

void RequestChannel::on_events(std::function<void()> wake) {
  const std::lock_guard lock(mutex_);
  wake_ = std::move(wake);
  if (wake_ && (count_ > 0 || open_samples_ == 0)) wake_();
}

void RequestChannel::abandon() {
  request_cancel(-1);
  const std::lock_guard lock(mutex_);
  wake_ = nullptr;
  abandoned_ = true;
  count_ = 0;
}

void RequestChannel::push(TokenEvent event) {
  {
    const std::lock_guard lock(mutex_);
    if (event.finish != FinishReason::none) --open_samples_;
    BITTERN_CHECK(open_samples_ >= 0, "a sample ended twice");
    if (abandoned_) return;
    if (count_ == ring_.size()) grow();
    ring_[(head_ + count_++) & (ring_.size() - 1)] = std::move(event);
    if (wake_) wake_();
  }
  arrived_.notify_one();
}

void RequestChannel::grow() {
  std::vector<TokenEvent> larger(ring_.size() * 2);
  for (std::size_t i = 0; i < count_; ++i) larger[i] = std::move(ring_[(head_ + i) & (ring_.size() - 1)]);
  ring_ = std::move(larger);
  head_ = 0;
}

void RequestChannel::publish_prompt_logprobs(std::vector<TokenEvent> scores) {
  const std::lock_guard lock(mutex_);
  prompt_logprobs_ = std::move(scores);
  published_ = true;
}

const std::vector<float>& RequestChannel::embedding() const {
  static const std::vector<float> kNone;
  const std::lock_guard lock(mutex_);
  return embedded_ ? embedding_ : kNone;
}

void RequestChannel::publish_embedding(std::vector<float> vector) {
  const std::lock_guard lock(mutex_);
  embedding_ = std::move(vector);
  embedded_ = true;
}

RequestProgress RequestChannel::progress() const {
  const std::lock_guard lock(mutex_);
  return progress_;
}

void RequestChannel::publish_progress(const RequestProgress& progress) {
  const std::lock_guard lock(mutex_);
  const auto queued = progress_.queued;
  progress_ = progress;
  progress_.queued = queued;
}

bool RequestChannel::cancel_requested(int sample) const {
  const std::lock_guard lock(mutex_);
  return cancel_[static_cast<std::size_t>(sample)];
}

}  // namespace bittern::engine
