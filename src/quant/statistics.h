// Statistics: what calibration gathers of a model's activations (definitions: docs/calibration.md). Per channel of the
// input of every linear in a decoder layer, and of K (after RoPE) and V: ranges and means. They add up over samples and
// over runs, and live on disk as one safetensors file with their provenance. Nothing here runs a model.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "tensor/tensor.h"

namespace bittern::quant {

/// Channels of rows of f32: range in f32, sums in f64.
class ChannelStatistics {
 public:
  ChannelStatistics() = default;
  explicit ChannelStatistics(std::int64_t channels);

  /// Rows of f32 whose trailing dimensions hold all channels: (tokens, channels) or (tokens, heads, channels / heads).
  void add(const Tensor& rows);
  /// Error(invalid_argument) when the channels differ.
  void merge(const ChannelStatistics& other);

  std::int64_t channels() const { return static_cast<std::int64_t>(max.size()); }
  /// Whether every value seen was a number: an infinity or NaN shows in the sums.
  bool finite() const;
  std::vector<float> mean() const;
  std::vector<float> absmean() const;
  std::vector<float> meansq() const;

  std::int64_t tokens = 0;
  std::vector<float> max, min, absmax;
  std::vector<double> sum, abs_sum, square_sum;
};

/// Squared error over energy of rounding K (or V) to static int8, one for each granularity (layer, head, channel) and
/// symmetry (asymmetric, symmetric), index 2 * granularity + symmetric.
using KvErrors = std::array<float, 6>;

struct LayerStatistics {
  std::map<std::string, ChannelStatistics> inputs;  // by linear, under its checkpoint name
  ChannelStatistics k, v;                           // kv_heads * head_dim channels; none without --kv
  KvErrors k_error{}, v_error{};                    // measured on the calibration tokens
  bool measured = false;                            // false after merging: the ranges are others then
};

/// Where statistics come from. Merged ones name each source once, separated by " + ".
struct Provenance {
  std::string model;        // origin, for people
  std::string fingerprint;  // of config.json and the weights, see model_fingerprint()
  std::string data;         // name of the data
  std::string data_sha256;
  std::string version;  // of the program
  std::int64_t samples = 0, tokens = 0;
  std::int64_t seqlen = 0;
  std::string seed;  // as a number, or several when merged
  bool operator==(const Provenance&) const = default;
};

struct Statistics {
  Provenance provenance;
  int kv_heads = 0, head_dim = 0;
  std::vector<LayerStatistics> layers;

  bool has_kv() const { return !layers.empty() && layers.front().k.channels() > 0; }
  /// Error(invalid_argument) when the other comes of another model, or has other linears, or only one has K and V.
  void merge(const Statistics& other);
  /// Written whole or not at all.
  void save(const std::filesystem::path& path) const;
  /// Error(invalid_checkpoint) names the tensor or the key that is missing or has another shape.
  static Statistics load(const std::filesystem::path& path);
};

}  // namespace bittern::quant
