// Takes the place of the CPU backend where cpu/ is not built.
#include <bittern/error.h>

#include "backend/backends.h"

namespace bittern {

std::unique_ptr<Backend> make_cpu_backend(const BackendOptions&) {
  throw Error(ErrorCode::unsupported, "this build of Bittern has no CPU backend", "use the ref backend");
}

}  // namespace bittern
