// Real models and texts for tests, which are not part of the project: the folder BITTERN_SHARED_DATA, by default
// ../shared/data beside the project. Tests that need them skip, naming what is absent.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

namespace bittern::testing {

inline std::filesystem::path shared_data(const std::string& relative) {
  const char* chosen = std::getenv("BITTERN_SHARED_DATA");
  const std::filesystem::path root =
      chosen != nullptr && *chosen != '\0' ? chosen : std::filesystem::path(BITTERN_SOURCE_DIR) / "../shared/data";
  return root / relative;
}

}  // namespace bittern::testing

#define SKIP_WITHOUT_SHARED_DATA(relative)                                         \
  if (!std::filesystem::exists(::bittern::testing::shared_data(relative)))         \
  GTEST_SKIP() << "absent: " << ::bittern::testing::shared_data(relative).string() \
               << " (set BITTERN_SHARED_DATA to a folder that has it)"
