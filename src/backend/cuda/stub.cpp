// Takes the place of the CUDA backend in builds without it.
#include <bittern/error.h>

#include "backend/backends.h"

namespace bittern {

std::unique_ptr<Backend> make_cuda_backend(const BackendOptions&) {
  throw Error(ErrorCode::unsupported, "this build of Bittern has no CUDA backend", "use the cpu backend");
}

}  // namespace bittern
