// What serving a model takes beside its weights, for a budget that must hold all of it: the engine's own memory plan,
// asked once for each precision of the KV cache.
#pragma once

#include <bittern/quantize.h>

#include <string>
#include <vector>

#include "tensor/model_files.h"

namespace bittern::cli {

struct ServingOptions {
  std::int64_t context = 0;       // tokens of the longest sequence; 0: what the model was made for
  int sequences = 1;              // that the KV cache must hold at once, each of that length
  std::string kv_cache = "auto";  // auto: bf16, int8 and int4, as far as the backend can hold them
  int threads = 0;
};

/// Best precision first. Error(invalid_argument) for a context the model does not run; unsupported for a precision the
/// backend cannot hold.
std::vector<quant::Budget::Serving> serving_memory(const ModelFiles& files, const ServingOptions& options);

/// The command that serves `plan` within its budget.
std::string serving_command(const quant::QuantizePlan& plan, const ServingOptions& options);

}  // namespace bittern::cli
