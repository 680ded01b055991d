// Asks the engine for its plan of a model without weights.
#include "serving_memory.h"

#include <bittern/engine.h>
#include <bittern/error.h>

#include <algorithm>

#include "backend/backend.h"
#include "models/model.h"

namespace bittern::cli {
namespace {

constexpr const char* kPrecisions[] = {"bf16", "int8", "int4"};

EngineOptions engine_options(const ServingOptions& options, const std::string& kv_cache) {
  EngineOptions engine;
  engine.kv_cache = kv_cache;
  engine.context = options.context;
  engine.max_sequences = options.sequences;
  engine.max_step_tokens = std::max(engine.max_step_tokens, options.sequences);
  engine.kv_cache_bytes = std::int64_t{1} << 50;  // as much as it asks for: the budget bounds it, not this machine
  return engine;
}

quant::Budget::Serving serving(Model& model, Backend& backend, const ServingOptions& options,
                               const std::string& kv_cache) {
  const EngineOptions engine = engine_options(options, kv_cache);
  const MemoryPlan plan = plan_memory(model, backend, engine);
  const std::int64_t blocks = options.sequences * ((plan.context + engine.block_tokens - 1) / engine.block_tokens);
  return {kv_cache, blocks * plan.kv_block, plan.arena};
}

}  // namespace

std::vector<quant::Budget::Serving> serving_memory(const ModelFiles& files, const ServingOptions& options) {
  BackendOptions device;
  device.threads = options.threads;
  const auto backend = make_backend("cpu", device);
  const auto model = build_model(load_config(files));
  if (options.kv_cache != "auto") return {serving(*model, *backend, options, options.kv_cache)};
  std::vector<quant::Budget::Serving> list;
  for (const char* precision : kPrecisions) {
    const KvSpec spec = model->kv_spec(parse_kv_format(precision, *backend), EngineOptions().block_tokens);
    if (backend->supports(spec)) list.push_back(serving(*model, *backend, options, precision));
  }
  return list;
}

std::string serving_command(const quant::QuantizePlan& plan, const ServingOptions& options) {
  std::string command = "bittern chat " + plan.output.string() + " --kv-cache " + plan.budget->kv_cache +
                        " --max-sequences " + std::to_string(options.sequences);
  if (options.context > 0) command += " --context " + std::to_string(options.context);
  return command + " --kv-cache-memory " + std::to_string(plan.budget->kv_bytes);
}

}  // namespace bittern::cli
