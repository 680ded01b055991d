// WakeHub: brings wakes of other threads to the connections of one I/O thread. A step of the engine wakes thousands of
// connections; they are collected in a list and the I/O thread is interrupted once, however many there are.
#pragma once

#include <boost/asio/any_io_executor.hpp>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "server/http/message.h"

namespace bittern::server {

class WakeHub : public std::enable_shared_from_this<WakeHub> {
 public:
  /// `executor` runs on the one I/O thread that the connections belong to.
  explicit WakeHub(boost::asio::any_io_executor executor) : executor_(std::move(executor)) {}

  /// Where a connection is rung. Created and closed on the I/O thread.
  struct Bell {
    std::function<void()> ring;  // empty once closed
    std::atomic<bool> pending{false};
  };

  /// A Wake for `bell`; it does nothing once the bell has been destroyed or closed.
  Wake wake_for(const std::shared_ptr<Bell>& bell);
  /// No wake reaches the executor any more; called before it goes.
  void close();

 private:
  void add(std::shared_ptr<Bell> bell);
  void ring_all();

  boost::asio::any_io_executor executor_;
  std::mutex mutex_;
  std::vector<std::shared_ptr<Bell>> rung_;
  bool closed_ = false;
};

}  // namespace bittern::server
