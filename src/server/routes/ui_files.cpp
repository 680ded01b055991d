// The assembler reads the files of ui/ into read-only data, as it does the embedded model's. A new file of the page is
// one line in each of the two lists below.
#include "server/routes/ui_files.h"

// BITTERN_UI_DIR is the absolute path of ui/ (src/server/CMakeLists.txt).
#define BITTERN_EMBED_UI(symbol, file)                                                       \
  asm(".pushsection .rodata\n"                                                               \
      "bittern_ui_" #symbol                                                                  \
      "_begin:\n"                                                                            \
      ".incbin \"" BITTERN_UI_DIR "/" file                                                   \
      "\"\n"                                                                                 \
      "bittern_ui_" #symbol                                                                  \
      "_end:\n"                                                                              \
      ".byte 0\n"                                                                            \
      ".popsection\n");                                                                      \
  extern "C" const char bittern_ui_##symbol##_begin[] __attribute__((visibility("hidden"))); \
  extern "C" const char bittern_ui_##symbol##_end[] __attribute__((visibility("hidden")));

BITTERN_EMBED_UI(index, "index.html")
BITTERN_EMBED_UI(style, "style.css")
BITTERN_EMBED_UI(icon, "icon.svg")
BITTERN_EMBED_UI(app, "app.js")
BITTERN_EMBED_UI(api, "api.js")
BITTERN_EMBED_UI(load, "load.js")
BITTERN_EMBED_UI(markdown, "markdown.js")
BITTERN_EMBED_UI(store, "store.js")

namespace bittern::server {
namespace {

constexpr std::string_view kScript = "text/javascript; charset=utf-8";

}  // namespace

#define BITTERN_UI_FILE(symbol, file, type) \
  UiFile { file, type, std::string_view(bittern_ui_##symbol##_begin, bittern_ui_##symbol##_end) }

std::span<const UiFile> ui_files() {
  static const UiFile kFiles[] = {
      BITTERN_UI_FILE(index, "index.html", "text/html; charset=utf-8"),
      BITTERN_UI_FILE(style, "style.css", "text/css; charset=utf-8"),
      BITTERN_UI_FILE(icon, "icon.svg", "image/svg+xml"),
      BITTERN_UI_FILE(app, "app.js", kScript),
      BITTERN_UI_FILE(api, "api.js", kScript),
      BITTERN_UI_FILE(load, "load.js", kScript),
      BITTERN_UI_FILE(markdown, "markdown.js", kScript),
      BITTERN_UI_FILE(store, "store.js", kScript),
  };
  return kFiles;
}

#undef BITTERN_UI_FILE

}  // namespace bittern::server
