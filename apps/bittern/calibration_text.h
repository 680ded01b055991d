// The calibration text that ships with the program: models/calibration/text.txt, in its read-only data.
#pragma once

#include <string_view>

namespace bittern::cli {

/// Its name in reports: "built-in:calibration.txt".
inline constexpr std::string_view kBuiltInText = "built-in:calibration.txt";
std::string_view built_in_calibration_text();

}  // namespace bittern::cli
