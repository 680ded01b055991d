// The formula, its error, and the file.
#include "quant/kv_params.h"

#include <bittern/error.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>

#include "backend/kv_params.h"
#include "base/check.h"
#include "quant/lookup.h"
#include "tensor/safetensors.h"

namespace bittern::quant {
namespace {

struct GranularityRow {
  std::string_view name;
  KvGranularity value;
};
constexpr GranularityRow kRows[] = {
    {"layer", KvGranularity::layer}, {"head", KvGranularity::head}, {"channel", KvGranularity::channel}};

// The channels one scale serves.
std::int64_t group_width(std::int64_t channels, int kv_heads, KvGranularity granularity) {
  if (granularity == KvGranularity::channel) return 1;
  return granularity == KvGranularity::head ? channels / kv_heads : channels;
}

struct Range {
  double low, high, absmax;
};

Range range_of(const ChannelStatistics& channels, std::int64_t first, std::int64_t width) {
  const auto pick = [&](const std::vector<float>& values) { return std::span(values).subspan(first, width); };
  return {*std::ranges::min_element(pick(channels.min)), *std::ranges::max_element(pick(channels.max)),
          *std::ranges::max_element(pick(channels.absmax))};
}

std::size_t index(KvGranularity granularity) { return static_cast<std::size_t>(granularity); }

}  // namespace

std::string_view kv_granularity_name(KvGranularity granularity) { return kRows[index(granularity)].name; }

KvGranularity parse_kv_granularity(std::string_view name) {
  return find_row("granularity", name, std::span<const GranularityRow>(kRows)).value;
}

KvScales kv_scales(const ChannelStatistics& channels, int kv_heads, KvGranularity granularity, bool symmetric) {
  BITTERN_CHECK(kv_heads > 0 && channels.channels() % kv_heads == 0);
  KvScales result;
  const std::int64_t width = group_width(channels.channels(), kv_heads, granularity);
  for (std::int64_t first = 0; first < channels.channels(); first += width) {
    const Range range = range_of(channels, first, width);
    if (!std::isfinite(range.low) || !std::isfinite(range.high)) {
      throw Error(ErrorCode::invalid_argument, "K or V has a range that is not finite",
                  "the model overflows on the calibration data; look at its weights and the data");
    }
    double zero = symmetric ? 0.0 : (range.low + range.high) / 2;
    double scale = symmetric ? range.absmax / 127 : (range.high - range.low) / 255;
    // Subnormal scales are no better than none: their inverse overflows.
    if (static_cast<float>(scale) < 0x1p-126f) {
      scale = range.absmax > 0x1p-100 ? range.absmax / 127 : 1.0 / 127;
      ++result.constant_groups;
    }
    result.scale.insert(result.scale.end(), static_cast<std::size_t>(width), static_cast<float>(scale));
    result.zero.insert(result.zero.end(), static_cast<std::size_t>(width), static_cast<float>(zero));
  }
  return result;
}

double kv_rounding_error(std::span<const float> rows, const KvScales& scales) {
  const std::size_t width = scales.scale.size();
  double error = 0, energy = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const float scale = scales.scale[i % width], zero = scales.zero[i % width];
    const double value = rows[i], decoded = kv_static_code(rows[i], scale, zero) * scale + zero;
    error += (value - decoded) * (value - decoded);
    energy += value * value;
  }
  return energy > 0 ? error / energy : 0;
}

double expected_kv_error(const ChannelStatistics& channels, const KvScales& scales) {
  double error = 0, energy = 0;
  for (std::size_t c = 0; c < scales.scale.size(); ++c) {
    // A channel that never moved is stored exactly when its group is its own; its rounding is not random.
    if (channels.max[c] == channels.min[c] && scales.zero[c] == channels.max[c]) continue;
    error += static_cast<double>(scales.scale[c]) * scales.scale[c] / 12;
  }
  for (const float square : channels.meansq()) energy += square;
  return energy > 0 ? error / energy : 0;
}

// --- The report -------------------------------------------------------------------------------------------------

namespace {

// Loss in any layer above which even the best static cache is better avoided: 33 dB under the signal.
constexpr double kHarmless = 5e-4;
// A coarser granularity is preferred up to so many times the least error: docs/calibration.md has the measurements.
constexpr double kTolerated = 2;

void require_kv(const Statistics& statistics) {
  if (statistics.has_kv()) return;
  throw Error(ErrorCode::invalid_argument, "the statistics hold no ranges of K and V", "calibrate with --kv");
}

double layer_error(const Statistics& statistics, const LayerStatistics& layer, bool keys, KvGranularity granularity,
                   bool symmetric) {
  const ChannelStatistics& channels = keys ? layer.k : layer.v;
  if (layer.measured) return (keys ? layer.k_error : layer.v_error)[2 * index(granularity) + (symmetric ? 1 : 0)];
  return expected_kv_error(channels, kv_scales(channels, statistics.kv_heads, granularity, symmetric));
}

void find_worst(KvReport& report) {
  for (const KvGranularity granularity : kKvGranularities) {
    const std::size_t g = index(granularity);
    for (const KvLayerError& layer : report.layers) {
      if (layer.k[g] > report.worst_k[g]) report.worst_k[g] = layer.k[g], report.worst_k_layer[g] = layer.layer;
      if (layer.v[g] > report.worst_v[g]) report.worst_v[g] = layer.v[g], report.worst_v_layer[g] = layer.layer;
    }
  }
}

std::string scientific(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.2e", value);
  return text;
}

std::string layer_name(int layer) { return "layer " + std::to_string(layer); }

std::string compared(const KvReport& report, KvGranularity coarse) {
  const std::size_t r = index(report.recommended), c = index(coarse);
  char text[160];
  std::snprintf(text, sizeof(text), "; a scale per %s would lose %.1f times as much of K (%.2e in layer %d)",
                std::string(kv_granularity_name(coarse)).c_str(), report.worst_k[c] / report.worst_k[r],
                report.worst_k[c], report.worst_k_layer[c]);
  return text;
}

// The coarsest whose worst layer loses at most kTolerated times what the least does, in K as in V: a scale for more
// values clips less on text unlike the calibration data, where it costs nothing else.
void recommend(KvReport& report) {
  const auto least = [](const double(&worst)[3]) { return *std::ranges::min_element(worst); };
  for (const KvGranularity granularity : kKvGranularities) {
    const std::size_t g = index(granularity);
    report.recommended = granularity;
    if (report.worst_k[g] <= kTolerated * least(report.worst_k) &&
        report.worst_v[g] <= kTolerated * least(report.worst_v))
      break;
  }
  const std::size_t g = index(report.recommended);
  report.reason = "the worst layers lose " + scientific(report.worst_k[g]) + " of K's energy (" +
                  layer_name(report.worst_k_layer[g]) + ") and " + scientific(report.worst_v[g]) + " of V's (" +
                  layer_name(report.worst_v_layer[g]) + ")";
  report.reason += report.recommended == KvGranularity::layer ? "; a finer one loses hardly less and clips more often"
                                                              : compared(report, KvGranularity::layer);
  if (std::max(report.worst_k[g], report.worst_v[g]) > kHarmless) {
    report.reason +=
        "; that is much (more than " + scientific(kHarmless) + "): rather use int8, which scales each token by itself";
  }
}

// Layers by descending error of K under the recommended granularity.
void sort_worst(KvReport& report) {
  const std::size_t g = index(report.recommended);
  for (const KvLayerError& layer : report.layers) report.worst_first.push_back(layer.layer);
  std::ranges::stable_sort(report.worst_first, std::greater<>(),
                           [&](int layer) { return report.layers[static_cast<std::size_t>(layer)].k[g]; });
}

}  // namespace

KvReport kv_report(const Statistics& statistics, bool symmetric) {
  require_kv(statistics);
  KvReport report;
  report.symmetric = symmetric;
  report.measured = std::ranges::all_of(statistics.layers, &LayerStatistics::measured);
  for (std::size_t i = 0; i < statistics.layers.size(); ++i) {
    KvLayerError error;
    error.layer = static_cast<int>(i);
    for (const KvGranularity granularity : kKvGranularities) {
      error.k[index(granularity)] = layer_error(statistics, statistics.layers[i], true, granularity, symmetric);
      error.v[index(granularity)] = layer_error(statistics, statistics.layers[i], false, granularity, symmetric);
    }
    report.layers.push_back(error);
  }
  find_worst(report);
  recommend(report);
  sort_worst(report);
  return report;
}

Json to_json(const KvReport& report) {
  Json granularities = Json::object();
  for (const KvGranularity granularity : kKvGranularities) {
    const std::size_t g = index(granularity);
    Json k = Json::array(), v = Json::array();
    for (const KvLayerError& layer : report.layers) k.push_back(layer.k[g]), v.push_back(layer.v[g]);
    granularities[std::string(kv_granularity_name(granularity))] = {{"k_nmse", std::move(k)},
                                                                    {"v_nmse", std::move(v)},
                                                                    {"worst_k_nmse", report.worst_k[g]},
                                                                    {"worst_k_layer", report.worst_k_layer[g]},
                                                                    {"worst_v_nmse", report.worst_v[g]},
                                                                    {"worst_v_layer", report.worst_v_layer[g]}};
  }
  return {{"symmetric", report.symmetric},
          {"error", report.measured ? "measured" : "expected"},
          {"granularities", std::move(granularities)},
          {"recommended", kv_granularity_name(report.recommended)},
          {"worst_k_layers_first", report.worst_first},
          {"reason", report.reason}};
}

// --- The file ---------------------------------------------------------------------------------------------------

namespace {

std::map<std::string, std::string> metadata_of(const Statistics& statistics, KvGranularity granularity,
                                               bool symmetric) {
  const Provenance& p = statistics.provenance;
  return {{"format", "bittern-kv-params-1"},
          {"granularity", std::string(kv_granularity_name(granularity))},
          {"symmetric", symmetric ? "true" : "false"},
          {"layers", std::to_string(statistics.layers.size())},
          {"model", p.model},
          {"model_fingerprint", p.fingerprint},
          {"data", p.data},
          {"data_sha256", p.data_sha256},
          {"tokens", std::to_string(p.tokens)},
          {"version", p.version}};
}

}  // namespace

KvParamsResult write_kv_params(const Statistics& statistics, KvGranularity granularity, bool symmetric,
                               const std::filesystem::path& path) {
  require_kv(statistics);
  KvParamsResult result;
  result.path = path;
  const std::vector<std::int64_t> shape = {statistics.kv_heads, statistics.head_dim};
  std::vector<TensorSpec> specs;
  std::vector<std::vector<float>> data;
  for (std::size_t i = 0; i < statistics.layers.size(); ++i) {
    for (const bool keys : {true, false}) {
      const ChannelStatistics& channels = keys ? statistics.layers[i].k : statistics.layers[i].v;
      KvScales scales = kv_scales(channels, statistics.kv_heads, granularity, symmetric);
      const std::string name = "layers." + std::to_string(i) + (keys ? ".k" : ".v");
      if (scales.constant_groups > 0) {
        result.constant_groups += scales.constant_groups;
        result.constant_layers.push_back("layer " + std::to_string(i) + (keys ? " K" : " V") + ": " +
                                         std::to_string(scales.constant_groups));
      }
      specs.push_back({name + "_scale", DType::f32, shape});
      specs.push_back({name + "_zero", DType::f32, shape});
      data.push_back(std::move(scales.scale));
      data.push_back(std::move(scales.zero));
    }
  }
  SafetensorsWriter writer(path, specs, metadata_of(statistics, granularity, symmetric));
  for (std::size_t i = 0; i < specs.size(); ++i) writer.write(specs[i].name, std::as_bytes(std::span(data[i])));
  writer.finish();
  return result;
}

}  // namespace bittern::quant
