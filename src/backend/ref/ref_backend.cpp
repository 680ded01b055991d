// Memory and weights of the reference backend: host memory, and every weight decoded to f32 when it is prepared.
#include "backend/ref/ref_backend.h"

#include <bittern/error.h>

#include <cstring>

#include "backend/backends.h"
#include "backend/host_buffer.h"
#include "backend/ref/ref_weight.h"
#include "base/check.h"
#include "tensor/convert.h"

namespace bittern {

std::unique_ptr<Backend> make_ref_backend(const BackendOptions& options) {
  if (!options.isa.empty()) {
    throw Error(ErrorCode::invalid_argument,
                "the ref backend has no instruction sets to choose from, but '" + options.isa + "' was asked for",
                "use the cpu backend");
  }
  if (!options.kernel_pin.empty()) {
    throw Error(ErrorCode::invalid_argument,
                "the ref backend has no kernels to choose from, but '" + options.kernel_pin + "' was asked for",
                "use the cpu backend");
  }
  if (!options.compute.empty() && options.compute != "auto" && options.compute != "f32") {
    throw Error(ErrorCode::invalid_argument,
                "the ref backend computes in double, but compute mode '" + options.compute + "' was asked for",
                "use the cpu backend, or auto or f32");
  }
  return std::make_unique<RefBackend>(options.compute != "f32");
}

std::unique_ptr<DeviceBuffer> RefBackend::allocate(std::int64_t bytes) { return std::make_unique<HostBuffer>(bytes); }

void RefBackend::copy_to_host(void* host, const void* device, std::int64_t bytes) {
  std::memcpy(host, device, static_cast<std::size_t>(bytes));
}

void RefBackend::copy_to_device(void* device, const void* host, std::int64_t bytes) {
  std::memcpy(device, host, static_cast<std::size_t>(bytes));
}

std::unique_ptr<PackedWeight> RefBackend::prepare(const Weight& weight) {
  if (weight.format.kind == FormatKind::dense && !is_float(weight.format.dtype)) {
    throw Error(ErrorCode::unsupported, "weight '" + weight.name + "' is stored as " + weight.format.name(),
                "a linear needs f32, f16, bf16 or groups of codes");
  }
  return std::make_unique<RefWeight>(weight);
}

std::unique_ptr<PackedWeight> RefBackend::prepare_table(const Weight& weight, bool) { return prepare(weight); }

std::unique_ptr<DeviceBuffer> RefBackend::prepare_vector(const Weight& weight, float offset) {
  BITTERN_CHECK(weight.in == 1, "{} has {} columns", weight.name, weight.in);
  const Weight values = to_f32(weight);
  auto buffer = std::make_unique<HostBuffer>(weight.out * static_cast<std::int64_t>(sizeof(float)));
  float* out = static_cast<float*>(buffer->data());
  for (std::int64_t i = 0; i < weight.out; ++i) out[i] = values.data.as<float>()[i] + offset;
  return buffer;
}

}  // namespace bittern
