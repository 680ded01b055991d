// Schemes written in the layout of GPTQ. Symmetric ones use its first version, which most programs read; asymmetric
// ones the second, since the first cannot store a zero of 0.
#include <bittern/error.h>

#include "base/check.h"
#include "quant/scheme_rows.h"
#include "tensor/bit_stream.h"
#include "tensor/gptq.h"

namespace bittern::quant {
namespace {

std::string obstacle(const LinearTask& linear, std::int64_t group_size) {
  return gptq_refusal(linear.out, linear.in, group_inputs(linear, group_size));
}

template <int kBits>
std::vector<TensorSpec> tensors(const LinearTask& linear, std::int64_t group_size) {
  const std::int64_t groups = linear.in / group_inputs(linear, group_size);
  return {{linear.name + ".qweight", DType::i32, {stream_words(linear.in, kBits), linear.out}},
          {linear.name + ".qzeros", DType::i32, {groups, stream_words(linear.out, kBits)}},
          {linear.name + ".scales", DType::f16, {groups, linear.out}},
          {linear.name + ".g_idx", DType::i32, {linear.in}}};
}

template <int kBits, bool kSymmetric>
void pack(const Weight& weight, const TensorSink& sink) {
  BITTERN_CHECK(weight.format.bits == kBits, "{}: {}", weight.name, weight.format.name());
  if (weight.input_order.rank != 0) {  // config.json says desc_act false for all, and readers then ignore g_idx
    throw Error(ErrorCode::unsupported, weight.name + ": its groups are not runs of inputs, which this scheme stores");
  }
  const GptqTensors packed = pack_gptq(weight, kSymmetric ? GptqZeros::minus_one : GptqZeros::plain);
  sink(weight.name + ".qweight", bytes_of(packed.qweight));
  sink(weight.name + ".qzeros", bytes_of(packed.qzeros));
  sink(weight.name + ".scales", bytes_of(packed.scales));
  sink(weight.name + ".g_idx", bytes_of(packed.g_idx));
}

template <int kBits>
std::int64_t pack_bytes(const LinearTask& linear, std::int64_t group_size) {
  return total_bytes(tensors<kBits>(linear, group_size)) + 32 * linear.in;  // the codes of a strip of 32 outputs
}

/// GPTQModel's negative rule for one module: its name as an expression.
std::string exclusion(const std::string& module) {
  std::string pattern = "-:^";
  for (const char c : module) pattern += c == '.' ? std::string("\\.") : std::string(1, c);
  return pattern + "$";
}

template <int kBits, bool kSymmetric>
Json config(std::int64_t group_size, const std::vector<std::string>& kept) {
  Json result = {{"quant_method", "gptq"}, {"checkpoint_format", kSymmetric ? "gptq" : "gptq_v2"},
                 {"bits", kBits},          {"group_size", group_size},
                 {"sym", kSymmetric},      {"desc_act", false},
                 {"lm_head", false}};
  for (const std::string& module : kept) {  // readers take all linears of the layers to be quantized, and only those
    if (layer_of(module) >= 0) result["dynamic"][exclusion(module)] = Json::object();
  }
  return result;
}

template <int kBits, bool kSymmetric>
constexpr Scheme row(std::string_view name, std::string_view numbers, std::string_view summary) {
  return {.name = name,
          .numbers = numbers,
          .disk_format = "gptq",
          .summary = summary,
          .bits = kBits,
          .symmetric = kSymmetric,
          .int8_activations = false,
          .group_sizes = kGroupSizes,
          .scale_dtype = DType::f16,
          .obstacle = obstacle,
          .tensors = tensors<kBits>,
          .pack = pack<kBits, kSymmetric>,
          .pack_bytes = pack_bytes<kBits>,
          .config = config<kBits, kSymmetric>,
          .group = nullptr};
}

constexpr std::array kRows = {
    row<4, false>("w4a16-gptq", "w4a16", "w4a16 written as GPTQ, version 2"),
    row<4, true>("w4a16-sym-gptq", "w4a16-sym", "w4a16-sym written as GPTQ"),
    row<8, false>("w8a16-gptq", "w8a16", "w8a16 written as GPTQ, version 2"),
    row<8, true>("w8a16-sym-gptq", "w8a16-sym", "w8a16-sym written as GPTQ"),
};

}  // namespace

std::span<const Scheme> gptq_schemes() { return kRows; }

}  // namespace bittern::quant
