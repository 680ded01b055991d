// Round to nearest: each group of weights along the input is mapped to the 16 integers between its extremes, zero
// always included (the definition of W4A16). No data is needed. Other algorithms choose other weights or ranges and end
// here.
#pragma once

#include <cstdint>

#include "base/thread_pool.h"
#include "tensor/weight.h"

namespace bittern::quant {

/// Quantizes a dense f32 weight (out, in) to int4 groups, rows in parallel:
///   lo = min(0, min w), hi = max(0, max w), s = max(hi - lo, 1e-5) / 15,
///   z = clamp(round(-lo / s), 0, 15), q = clamp(round(w / s) + z, 0, 15), decoded as (q - z) * s;
/// f32 arithmetic, ties round to even. `group_size` >= 1, or -1 for one group per row; a last group may be shorter.
/// `scale_dtype` is f16 or f32: s is rounded to it before z and q are computed, since what is stored is what decodes.
/// Errors: invalid_checkpoint naming the weight when one is not finite or its scale overflows f16.
Weight rtn_int4(const Weight& weight, std::int64_t group_size, DType scale_dtype, ThreadPool& pool);

}  // namespace bittern::quant
