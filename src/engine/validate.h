// The ranges of a Request, checked once at submit so that nothing behind it has to. Every refusal names the field.
#pragma once

#include <bittern/request.h>

#include <cstdint>

namespace bittern::engine {

constexpr int kMaxSamples = 128;
constexpr int kMaxLogprobs = 100;

/// Throws Error(invalid_argument) naming the field, the value and the range. `context` is the longest sequence.
void validate_request(const Request& request, std::int64_t vocab, std::int64_t context);

}  // namespace bittern::engine
