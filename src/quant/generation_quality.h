// What can be said of a long generation without a judge: whether it repeats itself, and how long two models say the
// same. Both are about tokens; whether the text is good, they do not know.
#pragma once

#include <cstdint>
#include <span>

namespace bittern::quant {

/// Share of the runs of `length` tokens that occurred before in the same text: 0 for text that never repeats itself,
/// near 1 for a loop. 0 for texts shorter than such a run.
double repeated_share(std::span<const std::int32_t> tokens, int length = 4);

/// Tokens from the start on in which two generations are the same.
std::int64_t common_prefix(std::span<const std::int32_t> a, std::span<const std::int32_t> b);

}  // namespace bittern::quant
