// StepRunner: all the engine knows of models and hardware: one step in, rows of logits out. The adapter over
// models/Runner is in model_step_runner.h; tests put a model of their own here.
#pragma once

#include <cstdint>
#include <span>

#include "backend/backend.h"

namespace bittern::engine {

class StepRunner {
 public:
  virtual ~StepRunner() = default;
  /// Runs the batch, storing its K and V in the pool, and returns f32 logits (logit_rows.size(), vocab) on the host,
  /// valid until the next call. `logit_rows` are rows of the batch, ascending. An exception fails every running
  /// request.
  virtual std::span<const float> step(const BatchView& batch, std::span<const std::int32_t> logit_rows) = 0;
  /// Hidden states after the final norm of rows [first, first + rows) of the last step's batch: f32 (rows, hidden).
  virtual void read_states(std::int64_t first, std::int64_t rows, std::span<float> out) = 0;
};

}  // namespace bittern::engine
