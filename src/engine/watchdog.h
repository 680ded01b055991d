// Watchdog: a thread that notices a step that takes too long (a kernel that hangs, a mask that does not come back, a
// machine that swaps), says what runs, and lets statistics show it, so that a health check can fail. It only looks: a
// step cannot be interrupted.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "engine/engine_core.h"

namespace bittern::engine {

class Watchdog {
 public:
  /// Tells `on_stall` (may be empty) once for each step of `core` that runs longer than `seconds`; 0: it does nothing.
  Watchdog(EngineCore& core, double seconds, std::function<void(const std::string& message)> on_stall);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  void run();
  void look();

  EngineCore& core_;
  const double seconds_;
  const std::function<void(const std::string&)> on_stall_;
  std::int64_t reported_ = 0;  // the step that was reported last
  std::mutex mutex_;
  std::condition_variable closing_;
  bool closed_ = false;
  std::thread thread_;  // last: everything else is ready when it starts
};

}  // namespace bittern::engine
