// RequestChannel: what one request's reader and the engine thread share: the request itself, the queue of its events,
// and the wish to cancel. The engine never waits for a reader: a request has at most n * (max_tokens + 1) events, which
// bounds the queue. Everything else about a request belongs to one thread (sequence.h).
#pragma once

#include <bittern/engine.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <vector>

namespace bittern::engine {

class RequestChannel {
 public:
  RequestChannel(Request request, std::uint64_t seed);

  const Request& request() const { return request_; }
  std::uint64_t seed() const { return seed_; }
  /// Of one sample; null without one. Used by the engine thread alone.
  TokenMask* mask(int sample) const {
    return masks_.empty() ? nullptr : masks_[static_cast<std::size_t>(sample)].get();
  }

  // --- the reader's side ---
  /// Blocks for the next event, until `deadline` if there is one; nullopt when it passed (`timed_out`) or when every
  /// sample has ended and all was read.
  std::optional<TokenEvent> next(std::optional<std::chrono::steady_clock::time_point> deadline, bool& timed_out);
  /// Empty until published; the reference stays valid and unchanged from then on.
  const std::vector<TokenEvent>& prompt_logprobs() const;
  /// Empty until published; the reference stays valid and unchanged from then on.
  const std::vector<float>& embedding() const;
  RequestProgress progress() const;
  /// Asks for the end of one sample, or of all with -1. The engine must be woken after it.
  void request_cancel(int sample);
  /// Calls `wake`, under the channel's lock, with every event from now on, and now if there are some.
  void on_events(std::function<void()> wake);
  /// The reader is gone: events are dropped from now on, and every sample is to be cancelled.
  void abandon();

  // --- the engine's side ---
  void push(TokenEvent event);
  void publish_prompt_logprobs(std::vector<TokenEvent> scores);
  void publish_embedding(std::vector<float> vector);
  /// All of `progress` but the time of queuing, which is the channel's own.
  void publish_progress(const RequestProgress& progress);
  bool cancel_requested(int sample) const;

 private:
  void grow();

  const Request request_;
  const std::uint64_t seed_;
  std::vector<std::shared_ptr<TokenMask>> masks_;  // (n), or empty
  mutable std::mutex mutex_;
  std::condition_variable arrived_;
  std::function<void()> wake_;    // of the reader, may be empty
  std::vector<TokenEvent> ring_;  // size a power of two; doubled when full, so a read-out queue never allocates
  std::size_t head_ = 0;          // index of the oldest event, counted without wrapping
  std::size_t count_ = 0;
  int open_samples_;  // samples whose end is still to come
  bool abandoned_ = false;
  std::vector<bool> cancel_;  // (n)
  std::vector<TokenEvent> prompt_logprobs_;
  bool published_ = false;
  std::vector<float> embedding_;
  bool embedded_ = false;
  RequestProgress progress_;
};

}  // namespace bittern::engine
