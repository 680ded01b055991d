// A report of quantization as one HTML page for people: what was done, what every linear lost, and plots of it. The
// page stands by itself: no scripts, nothing loaded. What programs read is the JSON of report.h.
#pragma once

#include <bittern/quantize.h>

#include <cstdint>
#include <string>

namespace bittern::quant {

/// The page in UTF-8. `peak_resident_bytes`: the most memory the process held, as the system counted it.
std::string to_html(const QuantizeReport& report, std::uint64_t peak_resident_bytes);

}  // namespace bittern::quant
