// Schemes written in the layouts of compressed-tensors: pack-quantized for weights alone, int-quantized for W8A8.
// Scales are bf16, which every reader's model type holds without loss.
#include <algorithm>

#include "base/check.h"
#include "quant/scheme_rows.h"
#include "tensor/bit_stream.h"
#include "tensor/compressed_tensors.h"

namespace bittern::quant {
namespace {

constexpr DType kScaleType = DType::bf16;
constexpr std::array<std::int64_t, 1> kWholeRows = {-1};

std::string obstacle(const LinearTask& linear, std::int64_t group_size) {
  return compressed_refusal(linear.in, group_inputs(linear, group_size));
}

Json with_groups(Json format, Json groups, const std::vector<std::string>& kept) {
  return {{"quant_method", "compressed-tensors"},
          {"format", std::move(format)},
          {"quantization_status", "compressed"},
          {"config_groups", std::move(groups)},
          {"ignore", kept}};
}

/// A configuration of one group that all linears but `kept` are in.
Json one_group(Json group, const std::vector<std::string>& kept) {
  Json format = std::move(group["format"]);
  group.erase("format");
  group["targets"] = {"Linear"};
  return with_groups(std::move(format), {{"group_0", std::move(group)}}, kept);
}

// --- pack-quantized ---

template <int kBits, bool kSymmetric>
std::vector<TensorSpec> packed_tensors(const LinearTask& linear, std::int64_t group_size) {
  const std::int64_t groups = linear.in / group_inputs(linear, group_size);
  std::vector<TensorSpec> list = {
      {linear.name + ".weight_packed", DType::i32, {linear.out, stream_words(linear.in, kBits)}},
      {linear.name + ".weight_scale", kScaleType, {linear.out, groups}},
      {linear.name + ".weight_shape", DType::i64, {2}}};
  if (!kSymmetric) {
    list.push_back({linear.name + ".weight_zero_point", DType::i32, {stream_words(linear.out, kBits), groups}});
  }
  return list;
}

template <int kBits, bool kSymmetric>
void pack(const Weight& weight, const TensorSink& sink) {
  BITTERN_CHECK(weight.format.bits == kBits, "{}: {}", weight.name, weight.format.name());
  const CompressedTensors packed = pack_compressed(weight, kSymmetric, kScaleType);
  sink(weight.name + ".weight_packed", bytes_of(packed.weight));
  sink(weight.name + ".weight_scale", bytes_of(packed.scale));
  sink(weight.name + ".weight_shape", bytes_of(packed.shape));
  if (!kSymmetric) sink(weight.name + ".weight_zero_point", bytes_of(packed.zero_point));
}

template <int kBits, bool kSymmetric>
std::int64_t packed_bytes(const LinearTask& linear, std::int64_t group_size) {
  return total_bytes(packed_tensors<kBits, kSymmetric>(linear, group_size));
}

template <int kBits, bool kSymmetric>
Json packed_group(std::int64_t group_size) {
  Json weights = {{"num_bits", kBits}, {"type", "int"}, {"symmetric", kSymmetric}, {"dynamic", false}};
  weights["strategy"] = group_size == -1 ? "channel" : "group";
  if (group_size != -1) weights["group_size"] = group_size;
  return {{"format", "pack-quantized"}, {"weights", std::move(weights)}, {"input_activations", nullptr}};
}

template <int kBits, bool kSymmetric>
Json packed_config(std::int64_t group_size, const std::vector<std::string>& kept) {
  return one_group(packed_group<kBits, kSymmetric>(group_size), kept);
}

template <int kBits, bool kSymmetric>
constexpr Scheme row(std::string_view name, std::string_view numbers, std::string_view summary) {
  return {.name = name,
          .numbers = numbers,
          .disk_format = "compressed-tensors",
          .summary = summary,
          .bits = kBits,
          .symmetric = kSymmetric,
          .int8_activations = false,
          .group_sizes = kGroupSizes,
          .scale_dtype = kScaleType,
          .obstacle = obstacle,
          .tensors = packed_tensors<kBits, kSymmetric>,
          .pack = pack<kBits, kSymmetric>,
          .pack_bytes = packed_bytes<kBits, kSymmetric>,
          .config = packed_config<kBits, kSymmetric>,
          .group = packed_group<kBits, kSymmetric>};
}

// --- int-quantized ---

std::vector<TensorSpec> w8a8_tensors(const LinearTask& linear, std::int64_t) {
  return {{linear.name + ".weight", DType::i8, {linear.out, linear.in}},
          {linear.name + ".weight_scale", kScaleType, {linear.out, 1}}};
}

void w8a8_pack(const Weight& weight, const TensorSink& sink) {
  const CompressedTensors packed = pack_int_quantized(weight, kScaleType);
  sink(weight.name + ".weight", bytes_of(packed.weight));
  sink(weight.name + ".weight_scale", bytes_of(packed.scale));
}

std::int64_t w8a8_bytes(const LinearTask& linear, std::int64_t group_size) {
  return total_bytes(w8a8_tensors(linear, group_size));
}

Json w8a8_group(std::int64_t) {
  const Json weights = {
      {"num_bits", 8}, {"type", "int"}, {"symmetric", true}, {"strategy", "channel"}, {"dynamic", false}};
  const Json inputs = {{"num_bits", 8}, {"type", "int"}, {"symmetric", true}, {"strategy", "token"}, {"dynamic", true}};
  return {{"format", "int-quantized"}, {"weights", weights}, {"input_activations", inputs}};
}

Json w8a8_config(std::int64_t group_size, const std::vector<std::string>& kept) {
  return one_group(w8a8_group(group_size), kept);
}

constexpr Scheme kW8A8 = {.name = "w8a8",
                          .numbers = "w8a8",
                          .disk_format = "compressed-tensors",
                          .summary = "8-bit weights per output, activations rounded to 8 bits per token",
                          .bits = 8,
                          .symmetric = true,
                          .int8_activations = true,
                          .group_sizes = kWholeRows,
                          .scale_dtype = kScaleType,
                          .obstacle = obstacle,
                          .tensors = w8a8_tensors,
                          .pack = w8a8_pack,
                          .pack_bytes = w8a8_bytes,
                          .config = w8a8_config,
                          .group = w8a8_group};

constexpr std::array kRows = {
    row<4, false>("w4a16-compressed-tensors", "w4a16", "w4a16 written as compressed-tensors"),
    row<4, true>("w4a16-sym", "w4a16-sym", "4-bit weights in symmetric groups"),
    row<3, false>("w3a16", "w3a16", "3-bit weights"),
    row<3, true>("w3a16-sym", "w3a16-sym", "symmetric"),
    row<5, false>("w5a16", "w5a16", "5-bit weights"),
    row<5, true>("w5a16-sym", "w5a16-sym", "symmetric"),
    row<6, false>("w6a16", "w6a16", "6-bit weights"),
    row<6, true>("w6a16-sym", "w6a16-sym", "symmetric"),
    row<7, false>("w7a16", "w7a16", "7-bit weights"),
    row<7, true>("w7a16-sym", "w7a16-sym", "symmetric"),
    row<8, false>("w8a16", "w8a16", "8-bit weights"),
    row<8, true>("w8a16-sym", "w8a16-sym", "symmetric"),
    kW8A8,
};

}  // namespace

std::span<const Scheme> compressed_schemes() { return kRows; }

Json mixed_config(std::span<const LinearTask> linears, std::int64_t group_size, const std::vector<std::string>& kept) {
  std::vector<const Scheme*> schemes;
  std::vector<Json> targets;
  for (const LinearTask& linear : linears) {
    const auto at = static_cast<std::size_t>(std::ranges::find(schemes, linear.scheme) - schemes.begin());
    if (at == schemes.size()) schemes.push_back(linear.scheme), targets.push_back(Json::array());
    targets[at].push_back(linear.name);
  }
  Json groups = Json::object(), format;
  for (std::size_t i = 0; i < schemes.size(); ++i) {
    BITTERN_CHECK(schemes[i]->group != nullptr, "{}", schemes[i]->name);
    Json group = schemes[i]->group(group_size);
    group["targets"] = std::move(targets[i]);
    if (i > 0 && format != group["format"]) format = "mixed-precision";
    if (i == 0) format = group["format"];
    groups["group_" + std::to_string(i)] = std::move(group);
  }
  return with_groups(std::move(format), std::move(groups), kept);
}

}  // namespace bittern::quant
