// The searches of AWQ over one linear or one scale group, free of models and files: candidate scales, what a candidate
// decodes to, and the best range of every group of weights.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "base/thread_pool.h"
#include "quant/rtn.h"
#include "quant/scale_groups.h"

namespace bittern::quant {

/// Per input channel: mean over all rows of |w| divided by the largest |w| of its group (AWQ's weight scale).
/// Weights are f32 (out, in) with the same `in`.
std::vector<float> relative_magnitudes(std::span<const Weight> weights, const GroupLayout& layout, ThreadPool& pool);

/// Scales s = x^r / w^(1-r), or x^r with `use_weights` false, normalized so that sqrt(max * min) = 1. Channels where x
/// is 0 or a result is not finite keep 1; others stay within [1e-4, 1e4].
std::vector<float> candidate_scales(std::span<const float> x, std::span<const float> w, float ratio, bool use_weights);

/// Each scale to the nearest power of two: dividing a stored bias by it is then exact in its element type.
void round_to_powers_of_two(std::span<float> scales);

/// result = the weight as it would decode if its columns were multiplied by `scales`, rounded, and divided by them
/// again. `scales` may be empty. `result` is allocated unless it has the weight's shape already.
void round_with_scales(const Weight& weight, std::span<const float> scales, const GroupLayout& layout, ThreadPool& pool,
                       Weight& result);

/// For every row and group the factor in {1, 0.95, ..., 0.5} that, multiplied to the range, gives the least
/// e^T G e, with e the rounding error of the group and G the Gram matrix of its inputs divided by `scales`.
/// `weight` has its columns scaled already. f32 (out, groups), owned by the returned Weight's data.
Weight clip_search(const Weight& weight, const ScaleGroup& inputs, std::span<const float> scales,
                   const GroupLayout& layout, Backend& backend, ThreadPool& pool);

}  // namespace bittern::quant
