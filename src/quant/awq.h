// AWQ (Lin et al., "AWQ: Activation-aware Weight Quantization", 2023): input channels that carry large activations are
// scaled up before rounding and the inverse is folded into what makes the activation; then the range of every group of
// weights is shrunk where that lowers the error of its outputs. Both are searched on calibration tokens.
//
// Scale groups come from data flow (scale_groups.h). A group behind a norm is judged by the error of its whole branch,
// a group behind another linear by that of its own outputs. Not scaled, and reported: groups with a linear that stays
// unquantized, and channels whose activations or weights are zero or not finite.
#pragma once

#include "quant/algorithm.h"

namespace bittern::quant {

/// Quantizes one layer; LayerWork::calibrated() must be there.
void run_awq(LayerWork& work);
std::int64_t awq_peak_bytes(std::span<const LinearTask> layer, std::int64_t group_size, std::int64_t search_tokens);

}  // namespace bittern::quant
