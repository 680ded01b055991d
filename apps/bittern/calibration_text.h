// The texts that ship in the program: what calibration looks at where no data is named (models/calibration/text.txt), and
// what the result is judged on (models/calibration/heldout.txt), which no calibration sees.
#pragma once

#include <string_view>

namespace bittern::cli {

/// Their names in reports and provenance.
inline constexpr std::string_view kBuiltInText = "built-in:calibration.txt";
inline constexpr std::string_view kHeldOutText = "built-in:heldout.txt";
std::string_view built_in_calibration_text();
std::string_view built_in_heldout_text();

}  // namespace bittern::cli
