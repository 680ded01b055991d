// Accumulating, merging, and the file: every vector is an f32 tensor, everything else metadata.
#include "quant/statistics.h"

#include <bittern/error.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "tensor/safetensors.h"

namespace bittern::quant {
namespace {

constexpr const char* kFormat = "bittern-statistics-1";

[[noreturn]] void invalid(const std::string& message, const std::string& hint = {}) {
  throw Error(ErrorCode::invalid_argument, message, hint);
}
[[noreturn]] void damaged(const std::string& message) {
  throw Error(ErrorCode::invalid_checkpoint, message, "make the statistics anew with `bittern calibrate`");
}

std::vector<float> divided(const std::vector<double>& sums, std::int64_t count) {
  std::vector<float> result(sums.size(), 0.0f);
  if (count == 0) return result;
  for (std::size_t i = 0; i < sums.size(); ++i) result[i] = static_cast<float>(sums[i] / static_cast<double>(count));
  return result;
}

}  // namespace

ChannelStatistics::ChannelStatistics(std::int64_t channels)
    : max(static_cast<std::size_t>(channels), -std::numeric_limits<float>::infinity()),
      min(static_cast<std::size_t>(channels), std::numeric_limits<float>::infinity()),
      absmax(static_cast<std::size_t>(channels), 0.0f),
      sum(static_cast<std::size_t>(channels), 0.0),
      abs_sum(static_cast<std::size_t>(channels), 0.0),
      square_sum(static_cast<std::size_t>(channels), 0.0) {}

void ChannelStatistics::add(const Tensor& rows) {
  BITTERN_CHECK(rows.dtype == DType::f32 && rows.size() == rows.rows() * channels());
  const auto width = static_cast<std::size_t>(rows.cols());
  const std::int64_t heads = rows.rank == 3 ? rows.shape[1] : 1;
  for (std::int64_t t = 0; t < rows.rows(); ++t) {
    for (std::int64_t h = 0; h < heads; ++h) {
      const float* x = rows.row<float>(t) + (rows.rank == 3 ? h * rows.stride[1] : 0);
      const std::size_t first = static_cast<std::size_t>(h) * width;
      for (std::size_t i = 0; i < width; ++i) {
        const std::size_t c = first + i;
        max[c] = std::max(max[c], x[i]);
        min[c] = std::min(min[c], x[i]);
        absmax[c] = std::max(absmax[c], std::abs(x[i]));
        const double value = x[i];
        sum[c] += value;
        abs_sum[c] += std::abs(value);
        square_sum[c] += value * value;
      }
    }
  }
  tokens += rows.rows();
}

void ChannelStatistics::merge(const ChannelStatistics& other) {
  if (channels() != other.channels()) {
    invalid("statistics of " + std::to_string(channels()) + " and " + std::to_string(other.channels()) +
            " channels cannot be merged");
  }
  for (std::size_t c = 0; c < max.size(); ++c) {
    max[c] = std::max(max[c], other.max[c]);
    min[c] = std::min(min[c], other.min[c]);
    absmax[c] = std::max(absmax[c], other.absmax[c]);
    sum[c] += other.sum[c];
    abs_sum[c] += other.abs_sum[c];
    square_sum[c] += other.square_sum[c];
  }
  tokens += other.tokens;
}

bool ChannelStatistics::finite() const {
  return std::ranges::all_of(square_sum, [](double value) { return std::isfinite(value); });
}

std::vector<float> ChannelStatistics::mean() const { return divided(sum, tokens); }
std::vector<float> ChannelStatistics::absmean() const { return divided(abs_sum, tokens); }
std::vector<float> ChannelStatistics::meansq() const { return divided(square_sum, tokens); }

namespace {

// "a" and "a + b" give "a + b": each source once, whole names compared.
std::string joined(const std::string& a, const std::string& b) {
  const std::string separator = " + ";
  const std::string all = separator + a + separator;
  return all.find(separator + b + separator) != std::string::npos ? a : a + separator + b;
}

void merge_layer(LayerStatistics& layer, const LayerStatistics& other) {
  for (auto& [name, channels] : layer.inputs) {
    const auto found = other.inputs.find(name);
    if (found == other.inputs.end()) invalid("the statistics to merge have no linear " + name);
    channels.merge(found->second);
  }
  if (layer.inputs.size() != other.inputs.size()) invalid("the statistics to merge have further linears");
  layer.k.merge(other.k);
  layer.v.merge(other.v);
  layer.measured = false;
}

}  // namespace

void Statistics::merge(const Statistics& other) {
  if (provenance.fingerprint != other.provenance.fingerprint) {
    invalid("statistics of two models cannot be merged: " + provenance.model + " and " + other.provenance.model);
  }
  if (layers.size() != other.layers.size() || has_kv() != other.has_kv()) {
    invalid("statistics with and without K and V cannot be merged", "calibrate both with --kv");
  }
  for (std::size_t i = 0; i < layers.size(); ++i) merge_layer(layers[i], other.layers[i]);
  provenance.data = joined(provenance.data, other.provenance.data);
  provenance.data_sha256 = joined(provenance.data_sha256, other.provenance.data_sha256);
  provenance.seed = joined(provenance.seed, other.provenance.seed);
  provenance.version = joined(provenance.version, other.provenance.version);
  provenance.samples += other.provenance.samples;
  provenance.tokens += other.provenance.tokens;
  provenance.seqlen = std::max(provenance.seqlen, other.provenance.seqlen);
}

// --- The file ---------------------------------------------------------------------------------------------------

namespace {

struct NamedVector {
  std::string name;
  std::vector<std::int64_t> shape;
  std::vector<float> values;
};

void list_channels(const ChannelStatistics& channels, const std::string& prefix, std::vector<std::int64_t> shape,
                   std::vector<NamedVector>& out) {
  out.push_back({prefix + ".max", shape, channels.max});
  out.push_back({prefix + ".min", shape, channels.min});
  out.push_back({prefix + ".absmax", shape, channels.absmax});
  out.push_back({prefix + ".mean", shape, channels.mean()});
  out.push_back({prefix + ".absmean", shape, channels.absmean()});
  out.push_back({prefix + ".meansq", std::move(shape), channels.meansq()});
}

std::string layer_prefix(std::size_t layer) { return "layers." + std::to_string(layer) + "."; }

std::vector<NamedVector> list_vectors(const Statistics& statistics) {
  std::vector<NamedVector> out;
  for (std::size_t i = 0; i < statistics.layers.size(); ++i) {
    const LayerStatistics& layer = statistics.layers[i];
    for (const auto& [name, channels] : layer.inputs) {
      list_channels(channels, layer_prefix(i) + "input." + name, {channels.channels()}, out);
    }
    if (layer.k.channels() == 0) continue;
    const std::vector<std::int64_t> shape = {statistics.kv_heads, statistics.head_dim};
    list_channels(layer.k, layer_prefix(i) + "k", shape, out);
    list_channels(layer.v, layer_prefix(i) + "v", shape, out);
    if (!layer.measured) continue;
    out.push_back({layer_prefix(i) + "k_error", {3, 2}, {layer.k_error.begin(), layer.k_error.end()}});
    out.push_back({layer_prefix(i) + "v_error", {3, 2}, {layer.v_error.begin(), layer.v_error.end()}});
  }
  return out;
}

std::map<std::string, std::string> metadata_of(const Statistics& statistics) {
  const Provenance& p = statistics.provenance;
  return {{"format", kFormat},
          {"model", p.model},
          {"model_fingerprint", p.fingerprint},
          {"data", p.data},
          {"data_sha256", p.data_sha256},
          {"version", p.version},
          {"samples", std::to_string(p.samples)},
          {"tokens", std::to_string(p.tokens)},
          {"seqlen", std::to_string(p.seqlen)},
          {"seed", p.seed},
          {"layers", std::to_string(statistics.layers.size())},
          {"kv_heads", std::to_string(statistics.kv_heads)},
          {"head_dim", std::to_string(statistics.head_dim)}};
}

class Reader {
 public:
  explicit Reader(const std::filesystem::path& path) : name_(path.string()) {
    const auto folder = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
    file_ = read_safetensors(ModelFiles::from_directory(folder)->require(path.filename().string()));
    if (!file_.metadata.contains("format") || file_.metadata.at("format") != kFormat) {
      damaged(name_ + " is not a file of calibration statistics");
    }
    for (const SafetensorsEntry& entry : file_.entries) index_.emplace(entry.name, &entry);
  }

  const std::string& text(const std::string& key) const {
    const auto found = file_.metadata.find(key);
    if (found == file_.metadata.end()) damaged(name_ + " says nothing of '" + key + "'");
    return found->second;
  }
  std::int64_t number(const std::string& key, std::int64_t limit) const {
    const std::string& digits = text(key);
    std::int64_t value = -1;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc() || end != digits.data() + digits.size() || value < 0 || value > limit) {
      damaged(name_ + ": " + key + " is '" + digits + "'");
    }
    return value;
  }
  bool has(const std::string& tensor) const { return index_.contains(tensor); }
  std::vector<float> vector(const std::string& tensor) const {
    const auto found = index_.find(tensor);
    if (found == index_.end()) damaged(name_ + " has no tensor " + tensor);
    const SafetensorsEntry& entry = *found->second;
    if (entry.dtype != DType::f32) damaged(name_ + ": " + tensor + " is " + entry.dtype_name + ", not F32");
    std::vector<float> values(entry.data.size() / sizeof(float));
    std::copy_n(entry.data.data(), entry.data.size(), reinterpret_cast<std::byte*>(values.data()));
    return values;
  }
  /// Names of the linears of one layer.
  std::vector<std::string> linears(std::size_t layer) const {
    const std::string prefix = layer_prefix(layer) + "input.", suffix = ".max";
    std::vector<std::string> names;
    for (const auto& [name, entry] : index_) {
      if (name.starts_with(prefix) && name.ends_with(suffix)) {
        names.push_back(name.substr(prefix.size(), name.size() - prefix.size() - suffix.size()));
      }
    }
    return names;
  }
  ChannelStatistics channels(const std::string& prefix, std::int64_t tokens, std::int64_t expected = -1) const {
    ChannelStatistics result;
    result.tokens = tokens;
    result.max = vector(prefix + ".max");
    const auto same = [&](const char* what) {
      std::vector<float> values = vector(prefix + what);
      if (values.size() != result.max.size()) damaged(name_ + ": " + prefix + what + " has another shape than .max");
      return values;
    };
    if (expected >= 0 && result.channels() != expected) damaged(name_ + ": " + prefix + " has not kv_heads x head_dim");
    result.min = same(".min");
    result.absmax = same(".absmax");
    const auto sums = [&](const char* what) {
      std::vector<double> values;
      for (const float mean : same(what)) values.push_back(static_cast<double>(mean) * static_cast<double>(tokens));
      return values;
    };
    result.sum = sums(".mean");
    result.abs_sum = sums(".absmean");
    result.square_sum = sums(".meansq");
    return result;
  }
  KvErrors errors(const std::string& tensor) const {
    const std::vector<float> values = vector(tensor);
    KvErrors result{};
    if (values.size() != result.size()) damaged(name_ + ": " + tensor + " has not 3 x 2 values");
    std::ranges::copy(values, result.begin());
    return result;
  }

 private:
  std::string name_;
  SafetensorsFile file_;
  std::map<std::string, const SafetensorsEntry*> index_;
};

LayerStatistics read_layer(const Reader& reader, std::size_t index, std::int64_t tokens, std::int64_t kv_channels) {
  LayerStatistics layer;
  const std::string prefix = layer_prefix(index);
  for (const std::string& name : reader.linears(index)) {
    layer.inputs.emplace(name, reader.channels(prefix + "input." + name, tokens));
  }
  if (layer.inputs.empty()) damaged("the statistics hold no linear of layer " + std::to_string(index));
  if (!reader.has(prefix + "k.max")) return layer;
  layer.k = reader.channels(prefix + "k", tokens, kv_channels);
  layer.v = reader.channels(prefix + "v", tokens, kv_channels);
  layer.measured = reader.has(prefix + "k_error");
  if (!layer.measured) return layer;
  layer.k_error = reader.errors(prefix + "k_error");
  layer.v_error = reader.errors(prefix + "v_error");
  return layer;
}

}  // namespace

void Statistics::save(const std::filesystem::path& path) const {
  const std::vector<NamedVector> vectors = list_vectors(*this);
  std::vector<TensorSpec> specs;
  for (const NamedVector& vector : vectors) specs.push_back({vector.name, DType::f32, vector.shape});
  SafetensorsWriter writer(path, specs, metadata_of(*this));
  for (const NamedVector& vector : vectors) writer.write(vector.name, std::as_bytes(std::span(vector.values)));
  writer.finish();
}

Statistics Statistics::load(const std::filesystem::path& path) {
  const Reader reader(path);
  constexpr std::int64_t kMany = std::int64_t{1} << 50;
  Statistics result;
  result.provenance = {
      reader.text("model"),           reader.text("model_fingerprint"), reader.text("data"),
      reader.text("data_sha256"),     reader.text("version"),           reader.number("samples", kMany),
      reader.number("tokens", kMany), reader.number("seqlen", kMany),   reader.text("seed")};
  if (result.provenance.tokens == 0) damaged(path.string() + " is of no tokens");
  result.kv_heads = static_cast<int>(reader.number("kv_heads", 1 << 20));
  result.head_dim = static_cast<int>(reader.number("head_dim", 1 << 20));
  const auto layers = static_cast<std::size_t>(reader.number("layers", 1 << 20));
  for (std::size_t i = 0; i < layers; ++i) {
    const std::int64_t kv_channels = static_cast<std::int64_t>(result.kv_heads) * result.head_dim;
    result.layers.push_back(read_layer(reader, i, result.provenance.tokens, kv_channels));
    if (result.layers[i].k.channels() != result.layers[0].k.channels()) damaged("some layers have K and V, some not");
  }
  return result;
}

}  // namespace bittern::quant
