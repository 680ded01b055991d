// The embedded model: the files of models/mini, placed in the program's read-only data by the assembler.
#include "model_source.h"

#include <cstddef>
#include <span>

// BITTERN_MINI_DIR is the absolute path of models/mini (CMakeLists.txt).
#define BITTERN_EMBED(symbol, file)                                                                     \
  asm(".pushsection .rodata\n"                                                                          \
      ".balign 64\n"                                                                                    \
      "bittern_embedded_" #symbol                                                                       \
      "_begin:\n"                                                                                       \
      ".incbin \"" BITTERN_MINI_DIR "/" file                                                            \
      "\"\n"                                                                                            \
      "bittern_embedded_" #symbol                                                                       \
      "_end:\n"                                                                                         \
      ".byte 0\n"                                                                                       \
      ".popsection\n");                                                                                 \
  extern "C" const std::byte bittern_embedded_##symbol##_begin[] __attribute__((visibility("hidden"))); \
  extern "C" const std::byte bittern_embedded_##symbol##_end[] __attribute__((visibility("hidden")));

BITTERN_EMBED(config, "config.json")
BITTERN_EMBED(generation_config, "generation_config.json")
BITTERN_EMBED(tokenizer, "tokenizer.json")
BITTERN_EMBED(tokenizer_config, "tokenizer_config.json")
BITTERN_EMBED(weights, "model.safetensors")
BITTERN_EMBED(heldout_tasks, "tasks/heldout.jsonl")

namespace bittern::cli {
namespace {

constexpr const char* kOrigin = "embedded:mini";

}  // namespace

bool is_embedded(const ModelFiles& files) { return files.origin() == kOrigin; }

std::string_view embedded_heldout_tasks() {
  const std::span bytes(bittern_embedded_heldout_tasks_begin, bittern_embedded_heldout_tasks_end);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::shared_ptr<const ModelFiles> embedded_model() {
#define BITTERN_EMBEDDED_FILE(symbol, file) \
  EmbeddedFile { file, std::span(bittern_embedded_##symbol##_begin, bittern_embedded_##symbol##_end) }
  return ModelFiles::from_embedded(kOrigin, {
                                                BITTERN_EMBEDDED_FILE(config, "config.json"),
                                                BITTERN_EMBEDDED_FILE(generation_config, "generation_config.json"),
                                                BITTERN_EMBEDDED_FILE(tokenizer, "tokenizer.json"),
                                                BITTERN_EMBEDDED_FILE(tokenizer_config, "tokenizer_config.json"),
                                                BITTERN_EMBEDDED_FILE(weights, "model.safetensors"),
                                            });
#undef BITTERN_EMBEDDED_FILE
}

}  // namespace bittern::cli
