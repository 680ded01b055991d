// The texts that ship in the program: what calibration looks at where no data is named (models/calibration/text.txt),
// and what the result is judged on, which no calibration sees: models/calibration/heldout.txt, and for the embedded
// model, which knows simple stories alone, its own held-out stories (models/mini/text/heldout.txt).
#pragma once

#include <string_view>

namespace bittern::cli {

/// Their names in reports and provenance.
inline constexpr std::string_view kBuiltInText = "built-in:calibration.txt";
inline constexpr std::string_view kHeldOutText = "built-in:heldout.txt";
inline constexpr std::string_view kMiniHeldOutText = "built-in:mini/heldout.txt";
std::string_view built_in_calibration_text();
std::string_view built_in_heldout_text();
std::string_view mini_heldout_text();

}  // namespace bittern::cli
