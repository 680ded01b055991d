// What every benchmark reports beside its own rows: the machine, the program, the limits measured in the same run; and
// Spread, how a figure of several repeats is stated. JSON has everything, the text what a reader compares.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "backend/cpu/machine_limits.h"
#include "base/json.h"
#include "options.h"

namespace bittern::cli {

/// Median and range of several repeats of one measurement.
struct Spread {
  double median = 0, low = 0, high = 0;
  int repeats = 0;
};
/// `values` must not be empty.
Spread spread_of(std::vector<double> values);
OrderedJson to_json(const Spread& spread);
/// "47.1 ±3 %": the median, and half the range in percent of it; `digits` after the point.
std::string text_of(const Spread& spread, int digits = 1);

/// Limits of the machine at the level the benchmark runs at.
struct MachineLimits {
  cpu::IsaLevel isa = cpu::IsaLevel::generic;
  int threads = 0;
  std::vector<cpu::StreamRate> read_by_streams;
  cpu::ArithmeticLimits arithmetic;
  /// Bytes per second of the best number of streams.
  double read() const;
};
MachineLimits measure_limits(const BackendOptions& device);
/// The arithmetic a compute mode can use at most, by name: int8 for `--compute int8`, bf16 for bf16, else f32.
std::pair<std::string, double> compute_limit(const BackendOptions& device, const MachineLimits& limits);
OrderedJson to_json(const MachineLimits& limits);

/// Program, version, commit, CPU, cores, memory, time, and the command line's device options.
OrderedJson machine_json(const BackendOptions& device);
/// "Intel(R) Xeon(R) Processor, 2 of 2 cores, avx512bf16; bittern 0.1.0 (a65e6e7)" and the limits.
void print_machine(const BackendOptions& device);
void print_limits(const MachineLimits& limits);
/// The document all benchmarks print with --json.
void print_report_json(const std::string& benchmark, const BackendOptions& device, const MachineLimits* limits,
                       const OrderedJson& options, const OrderedJson& results);

}  // namespace bittern::cli
