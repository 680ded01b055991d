// ThreadedEngine: the public Engine: an EngineCore on a thread of its own, and the streams that clients read.
// It adds threads and nothing else; what a step does is in engine_core.h.
#pragma once

#include <bittern/engine.h>

#include <memory>
#include <thread>

#include "engine/engine_core.h"
#include "engine/inbox.h"
#include "engine/step_runner.h"
#include "engine/watchdog.h"

namespace bittern::engine {

class ThreadedEngine final : public Engine {
 public:
  /// Of `options`, those of the waiting line and of the watchdog.
  ThreadedEngine(const CoreConfig& config, std::unique_ptr<StepRunner> runner, const MemoryPlan& plan,
                 const EngineOptions& options);
  /// Cancels everything, tells every reader, and joins the thread. Streams may outlive it.
  ~ThreadedEngine() override;

  std::unique_ptr<TokenStream> submit(Request request) override;
  EngineStats stats() const override;
  const MemoryPlan& plan() const override { return plan_; }

 private:
  void run();

  const MemoryPlan plan_;
  const std::int64_t vocab_;
  std::unique_ptr<StepRunner> runner_;
  std::shared_ptr<Inbox> inbox_;
  EngineCore core_;
  const double stall_seconds_;
  Watchdog watchdog_;
  std::thread thread_;  // last: everything else is ready when it starts
};

}  // namespace bittern::engine
