// The text, placed in the program by the assembler. BITTERN_CALIBRATION_TEXT is its absolute path (CMakeLists.txt).
#include "calibration_text.h"

asm(".pushsection .rodata\n"
    "bittern_calibration_text_begin:\n"
    ".incbin \"" BITTERN_CALIBRATION_TEXT
    "\"\n"
    "bittern_calibration_text_end:\n"
    ".byte 0\n"
    ".popsection\n");
extern "C" const char bittern_calibration_text_begin[] __attribute__((visibility("hidden")));
extern "C" const char bittern_calibration_text_end[] __attribute__((visibility("hidden")));

namespace bittern::cli {

std::string_view built_in_calibration_text() { return {bittern_calibration_text_begin, bittern_calibration_text_end}; }

}  // namespace bittern::cli
