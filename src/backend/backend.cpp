// Names and composed defaults of the seam.
#include "backend/backend.h"

#include <bittern/error.h>

#include "base/check.h"

namespace bittern {

std::string_view kv_format_name(KvFormat format) {
  switch (format) {
    case KvFormat::f32: return "f32";
    case KvFormat::f16: return "f16";
    case KvFormat::bf16: return "bf16";
    case KvFormat::int8: return "int8";
    case KvFormat::int4: return "int4";
    case KvFormat::int8_static: return "int8-static";
  }
  BITTERN_CHECK(false, "KvFormat {}", static_cast<int>(format));
}

void Backend::add_rms_norm(Tensor out, Tensor residual, Tensor x, const DeviceBuffer& weight, float eps) {
  add(residual, x);
  rms_norm(out, residual, weight, eps);
}

std::optional<SavedPacking> Backend::save_packing(const PackedWeight&) const { return std::nullopt; }

std::unique_ptr<PackedWeight> Backend::adopt_packing(const SavedPacking&, bool) { return nullptr; }

KvFormat parse_kv_format(std::string_view name, const Backend& backend) {
  if (name == "auto") return backend.name() == "ref" ? KvFormat::f32 : KvFormat::bf16;
  for (const KvFormat format :
       {KvFormat::f32, KvFormat::f16, KvFormat::bf16, KvFormat::int8, KvFormat::int4, KvFormat::int8_static}) {
    if (name == kv_format_name(format)) return format;
  }
  throw Error(ErrorCode::invalid_argument, "unknown KV cache format '" + std::string(name) + "'",
              "write auto, f32, f16, bf16, int8, int4 or int8-static");
}

}  // namespace bittern
