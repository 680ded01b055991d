// What starting a model took: seconds from the start of the process to the first token, and memory beside what the plan
// says of weights and KV cache.
#pragma once

#include <bittern/engine.h>

#include <cstdint>

#include "base/json.h"
#include "base/sysinfo.h"
#include "server/loaded_model.h"

namespace bittern::cli {

/// Read off when the first token was there.
struct StartReport {
  double seconds = 0;  // from the start of the process to the first token
  ResidentParts resident;
};

/// Beside weights and KV cache: the process's own memory, less weights that are not mapped.
std::int64_t other_memory(const StartReport& start, server::LoadedModel& model);
OrderedJson to_json(const StartReport& start, server::LoadedModel& model);

}  // namespace bittern::cli
