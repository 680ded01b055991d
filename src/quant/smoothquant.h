// SmoothQuant (Xiao et al., "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models",
// 2022), for schemes whose activations are rounded to int8 as well: channels of large activations are divided by
// s = max|x|^alpha / max|w|^(1 - alpha) and the weights that take them multiplied, so that both round well; the
// division is folded into what makes the activation. alpha is searched per group by the error of the outputs, weights
// and activations rounded as they will run.
#pragma once

#include "quant/algorithm.h"

namespace bittern::quant {

/// Quantizes one layer; LayerWork::calibrated() must be there and the scheme must have int8_activations.
void run_smoothquant(LayerWork& work);
std::int64_t smoothquant_peak_bytes(std::span<const LinearTask> layer, std::int64_t group_size,
                                    std::int64_t search_tokens);

/// s of every channel from the largest |x| and |w| (the paper's formula), normalized so that sqrt(max * min) = 1.
/// Channels where either is 0 or not finite keep 1.
std::vector<float> smoothing_scales(std::span<const float> x, std::span<const float> w, float alpha);

}  // namespace bittern::quant
