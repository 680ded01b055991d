// Static KV parameters: from the ranges that calibration saw to the scale and zero point of every channel of K and V
// (the formula is in docs/calibration.md), and how much each granularity loses. It neither runs a model nor quantizes a
// cache; backends do that with the file it writes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "quant/statistics.h"

namespace bittern::quant {

enum class KvGranularity : std::uint8_t { layer, head, channel };
inline constexpr KvGranularity kKvGranularities[] = {KvGranularity::layer, KvGranularity::head, KvGranularity::channel};
std::string_view kv_granularity_name(KvGranularity granularity);
/// Error(invalid_argument) lists the names and suggests the nearest.
KvGranularity parse_kv_granularity(std::string_view name);

/// One scale and zero point for each channel (kv_heads * head_dim), equal within a group of the granularity.
struct KvScales {
  std::vector<float> scale, zero;
  int constant_groups = 0;  // whose range is empty, so that the formula's scale would be 0
};

/// Asymmetric: zero = (min + max) / 2, scale = (max - min) / 255. Symmetric: zero = 0, scale = absmax / 127. A group
/// whose range is empty gets scale |value| / 127, or 1 / 127 for zeros, so that another value at run time is not lost.
/// Error(invalid_argument) when a range is not finite.
KvScales kv_scales(const ChannelStatistics& channels, int kv_heads, KvGranularity granularity, bool symmetric);

/// Squared error over energy of rounding `rows` (tokens, channels) to int8 with these scales, as the cache does it.
double kv_rounding_error(std::span<const float> rows, const KvScales& scales);
/// The same as expected from the ranges: scale^2 / 12 for every value.
double expected_kv_error(const ChannelStatistics& channels, const KvScales& scales);

/// K and V error of a layer at each granularity, asymmetric or symmetric.
struct KvLayerError {
  int layer = 0;
  double k[3] = {}, v[3] = {};  // by granularity
};

struct KvReport {
  bool symmetric = false;
  bool measured = false;  // on the calibration tokens; false: expected from the ranges
  std::vector<KvLayerError> layers;
  double worst_k[3] = {}, worst_v[3] = {};
  int worst_k_layer[3] = {}, worst_v_layer[3] = {};
  /// The coarsest granularity whose worst layers lose at most twice what they lose under the best one.
  KvGranularity recommended = KvGranularity::channel;
  std::string reason;
  std::vector<int> worst_first;  // layers by descending error of K under `recommended`
};
/// Error(invalid_argument) when the statistics are without K and V.
KvReport kv_report(const Statistics& statistics, bool symmetric);
Json to_json(const KvReport& report);

struct KvParamsResult {
  std::filesystem::path path;
  int constant_groups = 0;
  std::vector<std::string> constant_layers;  // "layer 3 K: 2 groups"
};

/// Writes "layers.N.k_scale", "k_zero", "v_scale", "v_zero", each f32 (kv_heads, head_dim), with granularity, symmetry
/// and provenance as metadata.
KvParamsResult write_kv_params(const Statistics& statistics, KvGranularity granularity, bool symmetric,
                               const std::filesystem::path& path);

}  // namespace bittern::quant
