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

  /// At most `max_waiting` requests may be waiting for their first step.
  explicit Inbox(int max_waiting);

  // --- any thread ---
  /// Error(overloaded) when the line is full, Error(cancelled) once closed.
  void submit(std::shared_ptr<RequestChannel> request);
  /// Some request's cancel_requested has changed.
  void announce_cancel();
  void close();
  /// Samples of requests not taken yet.
  std::int64_t pending_samples() const;

  // --- the engine thread ---
  /// Returns at once when `busy`, otherwise when there is something to do; false once closed.
  bool wait(bool busy);
  /// Moves what has arrived into `mail` (empty before); returns whether a cancel was announced since the last call.
  bool take(Mail& mail);
  /// `requests` have had their first step, or ended without one.
  void leave_line(int requests);

 private:
  const int max_waiting_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  Mail submitted_;
  int waiting_ = 0;
  bool cancel_announced_ = false;
  bool closed_ = false;
};

}  // namespace bittern::engine
