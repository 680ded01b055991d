// The table of algorithms and round-to-nearest's row: load, quantize, store, one linear after the other.
#include "quant/algorithm.h"

#include <bittern/error.h>

#include <algorithm>
#include <array>

#include "quant/awq.h"
#include "quant/gptq.h"
#include "quant/lookup.h"
#include "quant/rtn.h"
#include "quant/smoothquant.h"

namespace bittern::quant {
namespace {

void run_rtn(LayerWork& layer) {
  for (const LinearTask& linear : layer.linears()) {
    const Weight original = layer.load(linear);
    layer.store(linear, original, rtn(original, layer.layout(linear), layer.pool()));
  }
}

/// A linear in f32, its codes with f32 scales and zeros, and what packing takes.
std::int64_t rtn_peak_bytes(std::span<const LinearTask> layer, std::int64_t group_size, std::int64_t) {
  std::int64_t peak = 0;
  for (const LinearTask& linear : layer) {
    const std::int64_t inputs = group_inputs(linear, group_size);
    const std::int64_t groups = (linear.in + inputs - 1) / inputs;
    const std::int64_t codes =
        linear.out * (linear.scheme->bits > 4 ? linear.in : (linear.in + 1) / 2) + linear.out * groups * 5;
    peak = std::max(peak, linear.out * linear.in * 4 + codes + linear.scheme->pack_bytes(linear, group_size));
  }
  return peak;
}

constexpr std::array kAlgorithms = {
    Algorithm{"rtn", "round to nearest: no data needed, seconds to minutes, the baseline of every comparison", false,
              false, false, run_rtn, rtn_peak_bytes},
    Algorithm{"awq", "activation-aware scales and ranges, searched on calibration text; minutes to an hour", true,
              false, false, run_awq, awq_peak_bytes},
    Algorithm{"gptq", "error feedback: each column makes up for what those before it lost, on calibration text", true,
              false, true, run_gptq, gptq_peak_bytes},
    Algorithm{"smoothquant", "moves the range of activations into weights, for schemes that round both to int8", true,
              true, false, run_smoothquant, smoothquant_peak_bytes},
};

}  // namespace

std::span<const Algorithm> all_algorithms() { return kAlgorithms; }

const Algorithm& find_algorithm(std::string_view name) { return find_row("algorithm", name, all_algorithms()); }

bool needs_calibration(std::string_view algorithm) { return find_algorithm(algorithm).needs_calibration; }

GroupLayout layout_of(const Scheme& scheme, std::int64_t group_size) {
  return {scheme.bits, group_size, scheme.symmetric, scheme.scale_dtype, scheme.int8_activations};
}

void check_calibration(const Algorithm& algorithm, const QuantizeOptions& options) {
  const bool needed = algorithm.needs_calibration || options.budget, there = !options.calibration.sequences.empty();
  if (needed == there) return;
  const std::string name(algorithm.name);
  if (!algorithm.needs_calibration && needed) {
    throw Error(ErrorCode::invalid_argument, "a budget is met by measuring, which needs calibration data",
                "give some, or a scheme in place of the budget");
  }
  if (algorithm.needs_calibration) {
    throw Error(ErrorCode::invalid_argument, "algorithm '" + name + "' needs calibration data, and there is none",
                "give --data, or an algorithm that needs none, such as rtn");
  }
  throw Error(ErrorCode::invalid_argument, "algorithm '" + name + "' looks at no data, but calibration data was given",
              "leave it out, or use --algorithm awq");
}

void check_scheme(const Algorithm& algorithm, const Scheme& scheme) {
  if (!algorithm.needs_int8_activations || scheme.int8_activations) return;
  std::string fitting;
  for (const Scheme& row : all_schemes()) {
    if (row.int8_activations) fitting += (fitting.empty() ? "" : ", ") + std::string(row.name);
  }
  throw Error(ErrorCode::invalid_argument,
              "algorithm '" + std::string(algorithm.name) + "' is for schemes that round activations to int8, and '" +
                  std::string(scheme.name) + "' does not",
              "use it with --scheme " + fitting + "; or --algorithm awq or gptq");
}

}  // namespace bittern::quant
