// The texts, placed in the program by the assembler. BITTERN_MODELS_DIR is the folder above theirs (CMakeLists.txt).
#include "calibration_text.h"

#define BITTERN_EMBED(symbol, file)                                                                     \
  asm(".pushsection .rodata\n" #symbol "_begin:\n.incbin \"" BITTERN_MODELS_DIR "/" file "\"\n" #symbol \
      "_end:\n.byte 0\n.popsection\n");                                                                 \
  extern "C" const char symbol##_begin[] __attribute__((visibility("hidden")));                         \
  extern "C" const char symbol##_end[] __attribute__((visibility("hidden")))

BITTERN_EMBED(bittern_calibration_text, "calibration/text.txt");
BITTERN_EMBED(bittern_heldout_text, "calibration/heldout.txt");
BITTERN_EMBED(bittern_mini_heldout_text, "mini/text/heldout.txt");

namespace bittern::cli {

std::string_view built_in_calibration_text() { return {bittern_calibration_text_begin, bittern_calibration_text_end}; }
std::string_view built_in_heldout_text() { return {bittern_heldout_text_begin, bittern_heldout_text_end}; }
std::string_view mini_heldout_text() { return {bittern_mini_heldout_text_begin, bittern_mini_heldout_text_end}; }

}  // namespace bittern::cli
