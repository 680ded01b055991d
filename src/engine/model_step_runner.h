// ModelStepRunner: the StepRunner of a real model: owns the Runner, and with it the KV pool and the step arena.
#pragma once

#include "engine/step_runner.h"
#include "models/runner.h"

namespace bittern::engine {

class ModelStepRunner final : public StepRunner {
 public:
  ModelStepRunner(Model& model, Backend& backend, KvSpec kv, std::int64_t kv_blocks, RunnerLimits limits)
      : runner_(model, backend, kv, kv_blocks, limits) {}

  std::span<const float> step(const BatchView& batch, std::span<const std::int32_t> logit_rows) override {
    return runner_.step(batch, logit_rows);
  }
  void read_states(std::int64_t first, std::int64_t rows, std::span<float> out) override {
    runner_.read_states(first, rows, out);
  }

 private:
  Runner runner_;
};

}  // namespace bittern::engine
