// A clock and a comparison, a few times in the span that counts as a stall.
#include "engine/watchdog.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <utility>

namespace bittern::engine {

Watchdog::Watchdog(EngineCore& core, double seconds, std::function<void(const std::string&)> on_stall)
    : core_(core), seconds_(seconds), on_stall_(std::move(on_stall)) {
  if (seconds > 0) thread_ = std::thread([this] { run(); });
}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  closing_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Watchdog::run() {
  const std::chrono::duration<double> period(std::clamp(seconds_ / 4, 0.001, 1.0));
  std::unique_lock lock(mutex_);
  while (!closing_.wait_for(lock, period, [this] { return closed_; })) look();
}

void Watchdog::look() {
  const EngineCore::RunningStep step = core_.running_step();
  if (step.seconds <= seconds_ || step.number == reported_) return;
  reported_ = step.number;
  core_.count_stall();
  if (!on_stall_) return;
  on_stall_(fmt::format("step {} has been running for {:.1f} s: {} tokens of {} sequences; nothing else advances",
                        step.number, step.seconds, step.tokens, step.sequences));
}

}  // namespace bittern::engine
