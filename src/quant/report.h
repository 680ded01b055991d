// Plans and reports of quantization as JSON, and the lists of what can be chosen.
#pragma once

#include <bittern/quantize.h>

#include "base/json.h"

namespace bittern::quant {

Json to_json(const QuantizePlan& plan);
Json to_json(const LinearReport& linear);
Json to_json(const QuantizeReport& report);

}  // namespace bittern::quant
