// The files of ui/, which the build puts into the program.
#pragma once

#include <span>
#include <string_view>

namespace bittern::server {

struct UiFile {
  std::string_view name;  // "app.js"
  std::string_view content_type;
  std::string_view bytes;
};

std::span<const UiFile> ui_files();

}  // namespace bittern::server
