// `bittern bench` and its subcommands: one file each, one row in bench.cpp. A subcommand is declared as a verb is
// (verb.h); what they share (machine facts, spreads, the shape of the JSON) is in bench_report.h.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

namespace bittern::cli {

std::function<int()> declare_bench_latency(CLI::App& command);
std::function<int()> declare_bench_limits(CLI::App& command);
std::function<int()> declare_bench_ops(CLI::App& command);
std::function<int()> declare_bench_start(CLI::App& command);
std::function<int()> declare_bench_throughput(CLI::App& command);
std::function<int()> declare_bench_serve(CLI::App& command);

}  // namespace bittern::cli
