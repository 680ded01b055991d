// Plans and reports of quantization as JSON, and the lists of what can be chosen.
#pragma once

#include <bittern/quantize.h>

#include "base/json.h"

namespace bittern::quant {

Json to_json(const QuantizePlan& plan);
Json to_json(const LinearReport& linear);
Json to_json(const QualityReport& quality);
/// "quality" is null where it was not measured, and "quality_absent" says why.
Json to_json(const QuantizeReport& report);
/// Inverse of to_json; throws what Json does for another object.
LinearReport linear_report_from_json(const Json& json);

}  // namespace bittern::quant
