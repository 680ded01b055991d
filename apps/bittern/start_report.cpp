// Arithmetic over sysinfo and the memory plan.
#include "start_report.h"

#include <algorithm>

#include "models/model.h"

namespace bittern::cli {

std::int64_t other_memory(const StartReport& start, server::LoadedModel& model) {
  const std::int64_t mapped = mapped_weight_bytes(model.model());
  const MemoryPlan& plan = model.engine().plan();
  return std::max<std::int64_t>(0, static_cast<std::int64_t>(start.resident.own) - (plan.weights - mapped));
}

OrderedJson to_json(const StartReport& start, server::LoadedModel& model) {
  return {{"load_seconds", model.load_seconds()},
          {"first_token_seconds", start.seconds},
          {"weights", model.engine().plan().weights},
          {"weights_mapped", mapped_weight_bytes(model.model())},
          {"resident_own", start.resident.own},
          {"resident_mapped", start.resident.mapped},
          {"resident_own_beside_weights", other_memory(start, model)}};
}

}  // namespace bittern::cli
