// Where a failed BITTERN_CHECK ends. It writes with stdio alone: the logger may be what is broken.
#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace bittern {

void check_failed(const char* file, int line, const char* condition, const std::string& message) {
  std::fprintf(stderr, "%s:%d: check failed: %s%s%s\nThis is a bug in Bittern; please report it with this line.\n",
               file, line, condition, message.empty() ? "" : ": ", message.c_str());
  std::fflush(stderr);
  std::abort();
}

}  // namespace bittern
