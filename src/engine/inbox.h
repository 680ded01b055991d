// Inbox: how other threads reach the engine thread: submitted requests, the news that somebody wants to cancel, and the
// order to stop. It bounds the waiting line; it knows nothing of what a request is.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

#include "engine/request_channel.h"

namespace bittern::engine {

class Inbox {
 public:
  using Mail = std::vector<std::shared_ptr<RequestChannel>>;

  /// At most `max_waiting` requests may be waiting for their first step, with `max_tokens` tokens of prompts (0: any
  /// number; a single prompt may always wait).
  explicit Inbox(int max_waiting, std::int64_t max_tokens = 0);

  // --- any thread ---
  /// Error(overloaded) when the line is full, Error(cancelled) once closed.
  void submit(std::shared_ptr<RequestChannel> request);
  /// Some request's cancel_requested has changed.
  void announce_cancel();
  void close();
  /// Samples of requests not taken yet.
  std::int64_t pending_samples() const;
  /// Of prompts of the whole waiting line.
  std::int64_t waiting_tokens() const;

  // --- the engine thread ---
  /// Returns at once when `busy`, otherwise when there is something to do; false once closed.
  bool wait(bool busy);
  /// Moves what has arrived into `mail` (empty before); returns whether a cancel was announced since the last call.
  bool take(Mail& mail);
  /// `requests` have had their first step, or ended without one; their prompts have `tokens`.
  void leave_line(int requests, std::int64_t tokens);

 private:
  const int max_waiting_;
  const std::int64_t max_tokens_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  Mail submitted_;
  int waiting_ = 0;
  std::int64_t waiting_tokens_ = 0;
  bool cancel_announced_ = false;
  bool closed_ = false;
};

}  // namespace bittern::engine
