// BitBudget: from a limit of size to the bits of every linear, and with a limit of memory the precision of the KV cache
// too: the losses that sensitivity.h measured, the sizes that schemes and backends have, and the choice between them
// (knapsack.h).
#pragma once

#include <filesystem>
#include <memory>

#include "quant/job.h"

namespace bittern::quant {

/// `draft` is the job of the same options without choices. The measurement keeps its state in `state` and goes on from
/// what is there. Errors: out_of_memory when the budget cannot be reached, saying what can, before anything is
/// measured; those of measure_sensitivity() and make_job().
Job job_within_budget(const std::shared_ptr<const ModelFiles>& files, const Job& draft, const QuantizeOptions& options,
                      const std::filesystem::path& state, QuantizeSink& sink);

}  // namespace bittern::quant
