// The constructors behind make_backend(), one per backend folder. Nothing outside src/backend/factory.cpp calls them.
#pragma once

#include <memory>

#include "backend/backend.h"

namespace bittern {

/// ref/: plain loops, the oracle of the parity tests. Error(invalid_argument) when options name an ISA, a kernel or
/// a compute mode.
std::unique_ptr<Backend> make_ref_backend(const BackendOptions& options);
/// cpu/: kernels per instruction set. Error(unsupported) when the machine lacks the ISA the options force.
std::unique_ptr<Backend> make_cpu_backend(const BackendOptions& options);
/// cuda/: Error(unsupported) in a build without it.
std::unique_ptr<Backend> make_cuda_backend(const BackendOptions& options);

}  // namespace bittern
