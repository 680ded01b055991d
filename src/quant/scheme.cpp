// The table of schemes and its rows for AWQ GEMM, the layout of 4-bit weights that other tools read most widely.
#include "quant/scheme.h"

#include <bittern/error.h>

#include <algorithm>
#include <array>

#include "quant/lookup.h"
#include "quant/scheme_rows.h"
#include "tensor/awq.h"

namespace bittern::quant {
namespace {

std::string awq_obstacle(const LinearTask& linear, std::int64_t group_size) {
  return awq_refusal(linear.out, linear.in, group_inputs(linear, group_size));
}

std::vector<TensorSpec> awq_tensors(const LinearTask& linear, std::int64_t group_size) {
  const std::int64_t groups = linear.in / group_inputs(linear, group_size);
  return {{linear.name + ".qweight", DType::i32, {linear.in, linear.out / 8}},
          {linear.name + ".qzeros", DType::i32, {groups, linear.out / 8}},
          {linear.name + ".scales", DType::f16, {groups, linear.out}}};
}

void awq_pack(const Weight& weight, const TensorSink& sink) {
  const AwqTensors tensors = pack_awq(weight);
  sink(weight.name + ".qweight", bytes_of(tensors.qweight));
  sink(weight.name + ".qzeros", bytes_of(tensors.qzeros));
  sink(weight.name + ".scales", bytes_of(tensors.scales));
}

std::int64_t awq_pack_bytes(const LinearTask& linear, std::int64_t group_size) {
  return total_bytes(awq_tensors(linear, group_size));
}

Json awq_config(std::int64_t group_size, const std::vector<std::string>& kept) {
  return {{"quant_method", "awq"}, {"bits", 4},         {"group_size", group_size},
          {"zero_point", true},    {"version", "gemm"}, {"modules_to_not_convert", kept}};
}

constexpr std::array kAwqSchemes = {
    Scheme{.name = "w4a16",
           .numbers = "w4a16",
           .disk_format = "awq",
           .summary = "4-bit weights in asymmetric groups, activations in 16 bits; written as AWQ GEMM",
           .bits = 4,
           .symmetric = false,
           .int8_activations = false,
           .group_sizes = kGroupSizes,
           .scale_dtype = DType::f16,
           .obstacle = awq_obstacle,
           .tensors = awq_tensors,
           .pack = awq_pack,
           .pack_bytes = awq_pack_bytes,
           .config = awq_config,
           .group = nullptr},
};

std::vector<Scheme> join_rows() {
  std::vector<Scheme> rows(kAwqSchemes.begin(), kAwqSchemes.end());
  for (const auto& more : {compressed_schemes(), gptq_schemes()}) rows.insert(rows.end(), more.begin(), more.end());
  return rows;
}

}  // namespace

std::span<const Scheme> all_schemes() {
  static const std::vector<Scheme> rows = join_rows();
  return rows;
}

const Scheme& find_scheme(std::string_view name) { return find_row("scheme", name, all_schemes()); }

const Scheme& find_scheme_in_format(std::string_view scheme, std::string_view disk_format) {
  const std::string_view numbers = find_scheme(scheme).numbers;
  std::string formats;
  for (const Scheme& row : all_schemes()) {
    if (row.numbers != numbers) continue;
    if (row.disk_format == disk_format) return row;
    formats += (formats.empty() ? "" : ", ") + std::string(row.disk_format);
  }
  throw Error(ErrorCode::invalid_argument,
              "scheme " + std::string(numbers) + " cannot be written in the format '" + std::string(disk_format) + "'",
              "it can be written as " + formats);
}

void check_group_size(const Scheme& scheme, std::int64_t group_size) {
  if (std::ranges::find(scheme.group_sizes, group_size) != scheme.group_sizes.end()) return;
  std::string accepted;
  for (const std::int64_t size : scheme.group_sizes) accepted += (accepted.empty() ? "" : ", ") + std::to_string(size);
  throw Error(ErrorCode::invalid_argument,
              "group size " + std::to_string(group_size) + " is not one of scheme " + std::string(scheme.name),
              "use one of " + accepted + " (-1: one group per output row)");
}

}  // namespace bittern::quant
