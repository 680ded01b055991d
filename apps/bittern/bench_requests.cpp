// Reading a stream for its pace alone.
#include "bench_requests.h"

#include <bittern/error.h>

namespace bittern::cli {

bool wait_for_token(TokenStream& stream) {
  while (const auto event = stream.next()) {
    if (event->finish == FinishReason::failed) throw Error(ErrorCode::internal, event->error);
    if (event->token >= 0) return true;
  }
  return false;
}

}  // namespace bittern::cli
