// One post to the I/O thread for all bells that are rung before it comes to look.
#include <utility>

#include "server/http/wake_hub.h"

#include <boost/asio/post.hpp>

namespace bittern::server {

Wake WakeHub::wake_for(const std::shared_ptr<Bell>& bell) {
  return [hub = weak_from_this(), weak = std::weak_ptr<Bell>(bell)] {
    auto to = weak.lock();
    if (!to || to->pending.exchange(true)) return;
    if (const auto there = hub.lock()) there->add(std::move(to));
  };
}

void WakeHub::add(std::shared_ptr<Bell> bell) {
  const std::lock_guard lock(mutex_);
  if (closed_) return;
  rung_.push_back(std::move(bell));
  if (rung_.size() > 1) return;  // somebody has posted already
  boost::asio::post(executor_, [self = shared_from_this()] { self->ring_all(); });
}

void WakeHub::ring_all() {
  std::vector<std::shared_ptr<Bell>> bells;
  {
    const std::lock_guard lock(mutex_);
    bells.swap(rung_);
  }
  for (const auto& bell : bells) {
    bell->pending = false;  // before the ring, so that a wake during it counts
    if (bell->ring) bell->ring();
  }
}

void WakeHub::close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  rung_.clear();
}

}  // namespace bittern::server
