# Writes OUTPUT, a header with the commit of the sources, when it changed. Run at every build: cmake -DSOURCE=... -DOUTPUT=... -P
# "+" says that tracked files differ from the commit; outside a git checkout the commit is "unknown".
cmake_minimum_required(VERSION 3.25)
execute_process(COMMAND git -C "${SOURCE}" describe --always --abbrev=10 --exclude=* --dirty=+
  OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
if(failed)
  set(commit "unknown")
endif()
file(CONFIGURE OUTPUT "${OUTPUT}" CONTENT "// The commit this program was built from; written by cmake/commit.cmake.
#pragma once

namespace bittern::cli {
inline constexpr const char* kCommit = \"${commit}\";
}  // namespace bittern::cli
")
