// GPTQ over one decoder layer: Hessians of the inputs that the rounded layers before give, one at a time in the order
// of the data, so that every linear makes up for its own errors and works against those before it. The method itself is
// in gptq_solve.h.
#pragma once

#include "quant/algorithm.h"

namespace bittern::quant {

/// Quantizes one layer; LayerWork::calibrated() must be there. Leaves the hidden states of the rounded layer.
void run_gptq(LayerWork& work);
std::int64_t gptq_peak_bytes(std::span<const LinearTask> layer, std::int64_t group_size, std::int64_t search_tokens);

}  // namespace bittern::quant
