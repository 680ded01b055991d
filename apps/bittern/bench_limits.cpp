// `bittern bench limits`: reading memory by the number of streams a thread reads at once, and multiply-adds in
// registers at every instruction set of this machine. No model takes part.
#include <fmt/core.h>

#include <memory>

#include "bench.h"
#include "bench_report.h"
#include "table.h"

namespace bittern::cli {
namespace {

struct LimitsOptions {
  BackendOptions device;
  bool json = false;
};

struct LevelLimits {
  cpu::IsaLevel isa;
  cpu::ArithmeticLimits arithmetic;
};

// Every level up to the one asked for: AVX-512 machines run AVX2 programs too.
std::vector<LevelLimits> lower_levels(const MachineLimits& limits) {
  ThreadPool pool(limits.threads);
  std::vector<LevelLimits> levels;
  for (int level = 0; level < static_cast<int>(limits.isa); ++level) {
    const auto isa = static_cast<cpu::IsaLevel>(level);
    levels.push_back({isa, cpu::measure_arithmetic(pool, isa)});
  }
  levels.push_back({limits.isa, limits.arithmetic});
  return levels;
}

std::string rate(double value) { return value > 0 ? fmt::format("{:.1f}", value / 1e9) : "-"; }

void print_text(const MachineLimits& limits, const std::vector<LevelLimits>& levels) {
  Table read({"streams per thread", "GB/s"});
  for (const cpu::StreamRate& row : limits.read_by_streams) read.row({std::to_string(row.streams), rate(row.rate)});
  Table arithmetic({"instruction set", "f32 GFLOP/s", "bf16 GFLOP/s", "int8 GOP/s"});
  for (const LevelLimits& level : levels) {
    const cpu::ArithmeticLimits& a = level.arithmetic;
    arithmetic.row({std::string(cpu::isa_name(level.isa)), rate(a.f32), rate(a.bf16), rate(a.int8)});
  }
  fmt::print("\nmemory read, all threads:\n{}\nmultiply-adds in registers, all threads:\n{}", read.text(),
             arithmetic.text());
}

int run_limits(const LimitsOptions& options) {
  const BackendOptions& device = options.device;
  if (!options.json) print_machine(device);
  const MachineLimits limits = measure_limits(device);
  const std::vector<LevelLimits> levels = lower_levels(limits);
  if (!options.json) {
    print_text(limits, levels);
    return 0;
  }
  OrderedJson rows = OrderedJson::array();
  for (const LevelLimits& level : levels) {
    rows.push_back({{"isa", cpu::isa_name(level.isa)},
                    {"f32_flops", level.arithmetic.f32},
                    {"bf16_flops", level.arithmetic.bf16},
                    {"int8_ops", level.arithmetic.int8}});
  }
  print_report_json("limits", device, &limits, OrderedJson::object(), rows);
  return 0;
}

}  // namespace

std::function<int()> declare_bench_limits(CLI::App& command) {
  auto options = std::make_shared<LimitsOptions>();
  add_cpu_options(command, options->device);
  add_option(command, "--json", options->json, "print JSON");
  return [options] { return run_limits(*options); };
}

}  // namespace bittern::cli
