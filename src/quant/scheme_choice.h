// From options to the scheme of every linear: names, bits, symmetry and format must agree, and overrides must do
// something. What a scheme is stands in scheme.h.
#pragma once

#include <bittern/quantize.h>

#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "quant/algorithm.h"
#include "quant/scheme.h"

namespace bittern::quant {

/// The scheme that scheme, bits, symmetric and format of the options mean together. `mixed`: linears will differ, which
/// the format must be able to say. Error(invalid_argument) for unknown names and for what contradicts.
const Scheme& resolve_scheme(const QuantizeOptions& options, bool mixed);
/// The scheme of an override's text, in the format of `base` and symmetric as it is unless the text is a name.
const Scheme& resolve_override(const SchemeOverride& override_, const Scheme& base);

/// QuantizeOptions::skip and the patterns of overrides with 16 bits.
std::vector<std::string> skipped(const QuantizeOptions& options);
/// Sets LinearTask::scheme of all. Error(invalid_argument) as above, and for an override that matches none of them.
void assign_schemes(std::vector<LinearTask>& linears, const QuantizeOptions& options);

/// Names of the linears that overrides match.
std::set<std::string> overridden(std::span<const LinearTask> linears, const QuantizeOptions& options);

/// "quantization_config" of config.json for linears that have their schemes.
Json quantization_config(std::span<const LinearTask> linears, std::int64_t group_size,
                         const std::vector<std::string>& kept);

/// GptqOptions with what was chosen. Error(invalid_argument) when the algorithm reads none, and for a bad damping.
GptqOptions gptq_options(const Algorithm& algorithm, const QuantizeOptions& options);

}  // namespace bittern::quant
