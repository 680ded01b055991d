// KvStaticParams: the scales and zero points of a KV cache quantized with parameters fixed by calibration
// ("int8-static", design.md section 4), as plain numbers. Whatever granularity they were calibrated at (layer, head or
// channel), they are expanded to one of each per channel, so that a backend knows a single form. Reading and making
// them is not here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace bittern {

struct KvSpec;

/// f = q * scale + zero with q = round((f - zero) / scale), to nearest even, in [-128, 127]; a scale of 0 stores q = 0.
/// The symmetric form has zero 0. Keys are meant after rotation, as the cache holds them.
struct KvStaticParams {
  int layers = 0;
  int kv_heads = 0;
  int head_dim = 0;
  /// Each (layers, kv_heads, head_dim); scales finite and not negative, zeros finite.
  std::vector<float> k_scale, k_zero, v_scale, v_zero;

  std::size_t channels() const {
    return static_cast<std::size_t>(layers) * static_cast<std::size_t>(kv_heads) * static_cast<std::size_t>(head_dim);
  }
  /// Index of the first channel of a head in the vectors above.
  std::size_t head(int layer, std::int64_t kv_head) const {
    return (static_cast<std::size_t>(layer) * static_cast<std::size_t>(kv_heads) + static_cast<std::size_t>(kv_head)) *
           static_cast<std::size_t>(head_dim);
  }
};

/// Throws Error(invalid_argument) when `spec` has format int8_static and no parameters of its own shape with usable
/// numbers. Every backend calls it before it makes a pool.
void check_kv_params(const KvSpec& spec);

/// The code of `x`: round((x - zero) / scale) to nearest even in double, clamped to [-128, 127]; 0 for a scale of 0.
/// Infinities clamp like any large number; a NaN gets code 0, because a code cannot hold one.
std::int8_t kv_static_code(float x, float scale, float zero);

}  // namespace bittern
