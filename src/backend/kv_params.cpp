// Checking of static KV parameters, and the one definition of their rounding.
#include "backend/kv_params.h"

#include <bittern/error.h>

#include <algorithm>
#include <cmath>

#include "backend/backend.h"

namespace bittern {
namespace {

constexpr const char* kHint = "make them with bittern kv-params, or choose another --kv-cache";

void check_values(const char* name, const std::vector<float>& values, std::size_t expected, bool scales) {
  if (values.size() != expected) {
    throw Error(ErrorCode::invalid_argument,
                "static KV parameters hold " + std::to_string(values.size()) + " values of " + name + " where " +
                    std::to_string(expected) + " are needed",
                kHint);
  }
  const auto usable = [scales](float v) { return std::isfinite(v) && (!scales || v >= 0); };
  const auto bad = std::find_if_not(values.begin(), values.end(), usable);
  if (bad != values.end()) {
    throw Error(ErrorCode::invalid_argument,
                std::string("static KV parameters hold ") + std::to_string(*bad) + " as " + name + " number " +
                    std::to_string(bad - values.begin()),
                kHint);
  }
}

std::string shape(int layers, int kv_heads, int head_dim) {
  return std::to_string(layers) + " layers of " + std::to_string(kv_heads) + " KV heads of " + std::to_string(head_dim);
}

}  // namespace

void check_kv_params(const KvSpec& spec) {
  if (spec.format != KvFormat::int8_static) return;
  if (spec.static_params == nullptr) {
    throw Error(ErrorCode::invalid_argument,
                "KV cache format int8-static needs scales and zero points, and there are none", kHint);
  }
  const KvStaticParams& p = *spec.static_params;
  if (p.layers != spec.layers || p.kv_heads != spec.kv_heads || p.head_dim != spec.head_dim) {
    throw Error(ErrorCode::invalid_argument,
                "static KV parameters are for " + shape(p.layers, p.kv_heads, p.head_dim) + ", and the model has " +
                    shape(spec.layers, spec.kv_heads, spec.head_dim),
                kHint);
  }
  check_values("K scale", p.k_scale, p.channels(), true);
  check_values("K zero", p.k_zero, p.channels(), false);
  check_values("V scale", p.v_scale, p.channels(), true);
  check_values("V zero", p.v_zero, p.channels(), false);
}

std::int8_t kv_static_code(float x, float scale, float zero) {
  if (!(scale > 0) || std::isnan(x)) return 0;
  const double q = std::clamp((static_cast<double>(x) - zero) / scale, -128.0, 127.0);
  return static_cast<std::int8_t>((q + 0x1.8p52) - 0x1.8p52);  // leaves no bits below the unit: to nearest even
}

}  // namespace bittern
