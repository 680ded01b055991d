// `bittern bench throughput`: all requests are there at once, of lengths from a trace or drawn from ranges, and the
// engine batches them as it likes. What counts is tokens per second over the whole run; waiting is not judged (bench
// serve does that).
#include <bittern/error.h>
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <memory>

#include "base/progress.h"
#include "base/strings.h"
#include "bench.h"
#include "bench_model.h"
#include "bench_report.h"
#include "bench_requests.h"
#include "request_lengths.h"
#include "table.h"

namespace bittern::cli {
namespace {

struct ThroughputOptions {
  BenchModelOptions model;
  LengthOptions lengths;
  bool json = false;
};

struct Throughput {
  double seconds = 0;
  std::int64_t prompt_tokens = 0, generated_tokens = 0;
  EngineStats before, after;

  double rate(std::int64_t count) const { return static_cast<double>(count) / seconds; }
  std::int64_t steps() const { return after.steps - before.steps; }
  /// Tokens that were run in a step, prompts included.
  double tokens_per_step() const {
    return static_cast<double>(prompt_tokens + generated_tokens) /
           static_cast<double>(std::max<std::int64_t>(1, steps()));
  }
};

// One request ahead of them: it touches memory for the first time.
Throughput measure(Engine& engine, RequestMaker& requests, const std::vector<RequestLengths>& lengths) {
  static_cast<void>(wait_for_token(*engine.submit(requests.make(lengths.front().prompt, 1))));
  std::vector<Request> prepared;
  for (const RequestLengths& each : lengths) prepared.push_back(requests.make(each.prompt, each.output));
  Throughput result;
  result.before = engine.stats();
  Progress progress("running", lengths.size(), Progress::Unit::items);
  const auto begin = std::chrono::steady_clock::now();
  std::vector<std::unique_ptr<TokenStream>> streams;
  for (Request& request : prepared) {
    result.prompt_tokens += static_cast<std::int64_t>(request.prompt.size());
    streams.push_back(engine.submit(std::move(request)));
  }
  for (const auto& stream : streams) {
    while (wait_for_token(*stream)) ++result.generated_tokens;
    progress.advance(1);
  }
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  result.after = engine.stats();
  progress.finish();
  return result;
}

// The engine as the user set it up, with room for the requests in its waiting line.
EngineOptions engine_for(const ThroughputOptions& options, const std::vector<RequestLengths>& lengths) {
  EngineOptions engine = options.model.run.engine_options();
  engine.max_queued = std::max(engine.max_queued, static_cast<int>(lengths.size()));
  if (engine.context > 0) return engine;
  for (const RequestLengths& each : lengths) {
    engine.context = std::max<std::int64_t>(engine.context, each.prompt + each.output);
  }
  return engine;
}

void print_text(const Throughput& t, const ThroughputOptions& options, const MemoryPlan& plan, std::size_t requests) {
  fmt::print("{}, KV cache {}: {} blocks of {}\n", describe(options.model), plan.kv_format, plan.kv_blocks,
             human_bytes(static_cast<std::uint64_t>(plan.kv_block)));
  Table table({"", "total", "per second"});
  table.row({"requests", std::to_string(requests), fmt::format("{:.2f}", t.rate(static_cast<std::int64_t>(requests)))});
  table.row({"prompt tokens", std::to_string(t.prompt_tokens), fmt::format("{:.1f}", t.rate(t.prompt_tokens))});
  table.row(
      {"generated tokens", std::to_string(t.generated_tokens), fmt::format("{:.1f}", t.rate(t.generated_tokens))});
  table.row({"steps", std::to_string(t.steps()), fmt::format("{:.1f}", t.rate(t.steps()))});
  fmt::print("\n{}\n  {:.1f} s; {:.1f} tokens a step; {} preemptions\n", table.text(), t.seconds, t.tokens_per_step(),
             t.after.preemptions - t.before.preemptions);
}

OrderedJson results_json(const Throughput& t, const MemoryPlan& plan, std::size_t requests) {
  return {{"seconds", t.seconds},
          {"requests", requests},
          {"prompt_tokens", t.prompt_tokens},
          {"generated_tokens", t.generated_tokens},
          {"requests_per_second", t.rate(static_cast<std::int64_t>(requests))},
          {"prompt_tokens_per_second", t.rate(t.prompt_tokens)},
          {"generated_tokens_per_second", t.rate(t.generated_tokens)},
          {"steps", t.steps()},
          {"tokens_per_step", t.tokens_per_step()},
          {"preemptions", t.after.preemptions - t.before.preemptions},
          {"drafted_tokens", t.after.drafted_tokens - t.before.drafted_tokens},
          {"accepted_tokens", t.after.accepted_tokens - t.before.accepted_tokens},
          {"kv_blocks", plan.kv_blocks},
          {"kv_format", plan.kv_format},
          {"weight_bytes", plan.weights}};
}

int run_throughput(const ThroughputOptions& options) {
  const BackendOptions& device = options.model.run.device;
  check(options.model);
  const std::vector<RequestLengths> lengths = request_lengths(options.lengths);
  if (!options.json) print_machine(device);
  BenchModel model(options.model, engine_for(options, lengths));
  RequestMaker requests(model.model().config().vocab, options.lengths.seed);
  const Throughput result = measure(model.engine(), requests, lengths);
  if (options.json) {
    OrderedJson asked = to_json(options.model);
    asked.update(to_json(options.lengths));
    asked["max_sequences"] = options.model.run.engine.max_sequences;
    print_report_json("throughput", device, nullptr, asked,
                      results_json(result, model.engine().plan(), lengths.size()));
  } else {
    print_text(result, options, model.engine().plan(), lengths.size());
  }
  return 0;
}

}  // namespace

std::function<int()> declare_bench_throughput(CLI::App& command) {
  auto o = std::make_shared<ThroughputOptions>();
  add_bench_model_options(command, o->model);
  add_length_options(command, o->lengths);
  add_option(command, "--json", o->json, "print JSON");
  add_engine_options(command, o->model.run);
  add_device_options(command, o->model.run);
  return [o] { return run_throughput(*o); };
}

}  // namespace bittern::cli
