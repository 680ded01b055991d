// Facts of the machine from base/sysinfo, limits from backend/cpu, the rest arithmetic over repeats.
#include "bench_report.h"

#include <bittern/version.h>
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>

#include "base/strings.h"
#include "base/sysinfo.h"
#include "commit.h"

namespace bittern::cli {
namespace {

int threads_of(const BackendOptions& device) {
  return device.threads > 0 ? device.threads : ThreadPool::default_size();
}

std::string utc_now() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

std::string giga(double rate) { return fmt::format("{:.1f}", rate / 1e9); }

}  // namespace

Spread spread_of(std::vector<double> values) {
  std::ranges::sort(values);
  const std::size_t n = values.size();
  const double median = n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
  return {median, values.front(), values.back(), static_cast<int>(n)};
}

OrderedJson to_json(const Spread& spread) {
  return {{"median", spread.median}, {"low", spread.low}, {"high", spread.high}, {"repeats", spread.repeats}};
}

std::string text_of(const Spread& spread, int digits) {
  const double half = spread.median > 0 ? (spread.high - spread.low) / 2 / spread.median * 100 : 0;
  return fmt::format("{:.{}f} ±{:.0f} %", spread.median, digits, half);
}

double MachineLimits::read() const {
  double best = 0;
  for (const cpu::StreamRate& rate : read_by_streams) best = std::max(best, rate.rate);
  return best;
}

MachineLimits measure_limits(const BackendOptions& device) {
  ThreadPool pool(threads_of(device));
  MachineLimits limits;
  limits.isa = cpu::choose_isa(device.isa);
  limits.threads = pool.size();
  limits.read_by_streams = cpu::measure_read(pool, limits.isa);
  limits.arithmetic = cpu::measure_arithmetic(pool, limits.isa);
  return limits;
}

std::pair<std::string, double> compute_limit(const BackendOptions& device, const MachineLimits& limits) {
  if (device.compute == "int8" && limits.arithmetic.int8 > 0) return {"int8", limits.arithmetic.int8};
  if (device.compute == "bf16" && limits.arithmetic.bf16 > 0) return {"bf16", limits.arithmetic.bf16};
  return {"f32", limits.arithmetic.f32};
}

OrderedJson to_json(const MachineLimits& limits) {
  OrderedJson json = {{"read_bytes_per_second", limits.read()}, {"read_by_streams", OrderedJson::object()}};
  for (const cpu::StreamRate& rate : limits.read_by_streams) {
    json["read_by_streams"][std::to_string(rate.streams)] = rate.rate;
  }
  const auto add = [&](const char* name, double rate) { json[name] = rate > 0 ? OrderedJson(rate) : OrderedJson(); };
  add("f32_flops", limits.arithmetic.f32);
  add("bf16_flops", limits.arithmetic.bf16);
  add("int8_ops", limits.arithmetic.int8);
  return json;
}

OrderedJson machine_json(const BackendOptions& device) {
  return {{"program", "bittern"},
          {"version", kVersion},
          {"commit", kCommit},
          {"compiler", __VERSION__},
          {"time", utc_now()},
          {"cpu", cpu_model_name()},
          {"cores", usable_cores()},
          {"threads", threads_of(device)},
          {"isa", cpu::isa_name(cpu::choose_isa(device.isa))},
          {"compute", device.compute.empty() ? "auto" : device.compute},
          {"cpu_features", cpu_features().names()},
          {"memory_bytes", memory_info().total}};
}

void print_machine(const BackendOptions& device) {
  fmt::print("{}, {} threads on {} cores, {}, {} of memory\nbittern {} ({})\n", cpu_model_name(), threads_of(device),
             usable_cores(), cpu::isa_name(cpu::choose_isa(device.isa)), human_bytes(memory_info().total), kVersion,
             kCommit);
}

void print_limits(const MachineLimits& limits) {
  const cpu::ArithmeticLimits& a = limits.arithmetic;
  std::string line = fmt::format("limits: read {} GB/s, f32 {} GFLOP/s", giga(limits.read()), giga(a.f32));
  if (a.bf16 > 0) line += fmt::format(", bf16 {} GFLOP/s", giga(a.bf16));
  if (a.int8 > 0) line += fmt::format(", int8 {} GOP/s", giga(a.int8));
  fmt::print("{}\n", line);
}

void print_report_json(const std::string& benchmark, const BackendOptions& device, const MachineLimits* limits,
                       const OrderedJson& options, const OrderedJson& results) {
  OrderedJson json = {{"benchmark", benchmark}, {"machine", machine_json(device)}};
  if (limits != nullptr) json["limits"] = to_json(*limits);
  json["options"] = options;
  json["results"] = results;
  fmt::print("{}\n", json.dump(2));
}

}  // namespace bittern::cli
