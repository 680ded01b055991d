// What make_engine resolves from options, model, backend and free memory before anything is allocated.
// The public part is MemoryPlan; the rest is what the engine is then built with.
#pragma once

#include <bittern/engine.h>

#include "backend/backend.h"
#include "engine/scheduler.h"
#include "models/runner.h"

namespace bittern::engine {

/// Rows of logits of one step beyond one for each sequence: what prompt scores have to share, and drafts.
constexpr int kScoreRows = 32;

struct ResolvedOptions {
  KvSpec kv;
  RunnerLimits limits;
  MemoryPlan plan;
};

/// Throws Error as plan_memory does. `available` is what this process may still allocate, in bytes.
ResolvedOptions resolve_options(Model& model, Backend& backend, const EngineOptions& options, std::int64_t available);
/// Error(out_of_memory) unless the plan fits into what is free.
void check_free_memory(const MemoryPlan& plan, std::int64_t mapped_weights, std::int64_t available);

}  // namespace bittern::engine
