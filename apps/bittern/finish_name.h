// Finish reasons as the OpenAI API spells them, with ours beside.
#pragma once

#include <bittern/request.h>

namespace bittern::cli {

inline const char* finish_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::none: return "none";
    case FinishReason::stop: return "stop";
    case FinishReason::length: return "length";
    case FinishReason::cancelled: return "cancelled";
    case FinishReason::failed: return "failed";
  }
  return "none";
}

}  // namespace bittern::cli
