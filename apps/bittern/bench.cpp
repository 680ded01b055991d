// `bittern bench`: the table of its subcommands. Each measures one thing, names the machine it ran on, and prints a
// table or JSON.
#include "bench.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "verb.h"

namespace bittern::cli {
namespace {

constexpr Verb kBenchmarks[] = {
    {"limits", "what this machine can do at most: memory, f32, bf16, int8", declare_bench_limits},
    {"ops", "each kernel over the shapes of published models, as a fraction of the limits", declare_bench_ops},
    {"latency", "prefill and decode of a model over context lengths and batch sizes", declare_bench_latency},
    {"throughput", "many requests at once, batched as the engine likes: tokens per second", declare_bench_throughput},
    {"start", "from the start of a process to the first token, and memory beside the plan", declare_bench_start},
    {"serve", "any OpenAI-compatible server under load: latencies, throughput, goodput", declare_bench_serve},
};

using Bodies = std::vector<std::pair<CLI::App*, std::function<int()>>>;

int run_parsed(const Bodies& bodies) {
  for (const auto& [command, body] : bodies) {
    if (command->parsed()) return body();
  }
  return 1;  // unreachable: CLI11 requires one
}

}  // namespace

std::function<int()> declare_bench(CLI::App& command) {
  command.require_subcommand(1);
  auto bodies = std::make_shared<Bodies>();
  for (const Verb& benchmark : kBenchmarks) {
    CLI::App* sub = command.add_subcommand(std::string(benchmark.name), std::string(benchmark.summary));
    bodies->emplace_back(sub, benchmark.declare(*sub));
  }
  return [bodies] { return run_parsed(*bodies); };
}

}  // namespace bittern::cli
