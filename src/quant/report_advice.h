// What to do next, from the facts of a report of quantization: sentences for people, each with the option or command
// that it is about. It knows no model and measures nothing.
#pragma once

#include <bittern/quantize.h>

#include <string>
#include <vector>

namespace bittern::quant {

/// Sentences in the order of use; plain text, unescaped. Never empty for a report with linears.
std::vector<std::string> advice(const QuantizeReport& report);

}  // namespace bittern::quant
