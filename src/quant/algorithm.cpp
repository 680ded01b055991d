// The table of algorithms and round-to-nearest's row: load, quantize, store, one linear after the other.
#include "quant/algorithm.h"

#include <bittern/error.h>

#include <algorithm>
#include <array>

#include "quant/lookup.h"
#include "quant/rtn.h"

namespace bittern::quant {
namespace {

void run_rtn(LayerWork& layer) {
  for (const LinearTask& linear : layer.linears()) {
    const Weight original = layer.load(linear);
    layer.store(linear, original, rtn_int4(original, layer.group_size(), layer.scheme().scale_dtype, layer.pool()));
  }
}

/// A linear in f32, its codes with f32 scales and zeros, and what packing takes.
std::int64_t rtn_peak_bytes(std::span<const LinearTask> layer, const Scheme& scheme, std::int64_t group_size) {
  std::int64_t peak = 0;
  for (const LinearTask& linear : layer) {
    const std::int64_t inputs = group_inputs(linear, group_size);
    const std::int64_t groups = (linear.in + inputs - 1) / inputs;
    const std::int64_t codes = linear.out * ((linear.in + 1) / 2 + groups * 5);
    peak = std::max(peak, linear.out * linear.in * 4 + codes + scheme.pack_bytes(linear, group_size));
  }
  return peak;
}

constexpr std::array kAlgorithms = {
    Algorithm{"rtn", "round to nearest: no data needed, seconds to minutes, the baseline of every comparison", false,
              run_rtn, rtn_peak_bytes},
};

}  // namespace

std::span<const Algorithm> all_algorithms() { return kAlgorithms; }

const Algorithm& find_algorithm(std::string_view name) { return find_row("algorithm", name, all_algorithms()); }

void check_can_run(const Algorithm& algorithm) {
  if (!algorithm.needs_calibration) return;
  throw Error(ErrorCode::unsupported,
              "algorithm '" + std::string(algorithm.name) + "' needs calibration statistics, which are not there yet",
              "use one that needs none, such as rtn");
}

}  // namespace bittern::quant
