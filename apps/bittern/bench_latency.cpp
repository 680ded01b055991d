// `bittern bench latency`: one sequence alone over several context lengths (prefill, then decode behind it), and many
// sequences decoding together. Prefill is timed to the first token, decode between tokens; nothing but the engine is
// between the clock and the kernels, sampling included and text left out.
#include <bittern/error.h>
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <memory>

#include "base/strings.h"
#include "bench.h"
#include "bench_model.h"
#include "bench_report.h"
#include "bench_requests.h"
#include "table.h"

namespace bittern::cli {
namespace {

using Clock = std::chrono::steady_clock;

struct LatencyOptions {
  BenchModelOptions model;
  std::vector<int> contexts = {512, 2048, 8192}, batches = {1, 4, 16, 32};
  int batch_prompt = 128, output = 32, repeats = 5;
  std::uint64_t seed = 0;
  bool json = false;
};

struct ContextRow {
  int context = 0;
  Spread prefill, decode;  // tokens per second
};
struct BatchRow {
  int batch = 0;
  Spread decode;  // tokens per second of all sequences
};
struct Latencies {
  std::vector<ContextRow> contexts;
  std::vector<BatchRow> batches;
};

class LatencyRun {
 public:
  LatencyRun(Engine& engine, std::int64_t vocab, const LatencyOptions& options)
      : engine_(engine), options_(options), requests_(vocab, options.seed) {}

  Latencies run() {
    alone(options_.contexts.front());  // the first request touches memory for the first time
    Latencies result;
    for (const int context : options_.contexts) result.contexts.push_back(measure_context(context));
    for (const int batch : options_.batches) result.batches.push_back(measure_batch(batch));
    return result;
  }

 private:
  struct Rates {
    double prefill, decode;
  };

  ContextRow measure_context(int context) {
    std::vector<double> prefill, decode;
    for (int i = 0; i < options_.repeats; ++i) {
      const Rates rates = alone(context);
      prefill.push_back(rates.prefill);
      decode.push_back(rates.decode);
    }
    return {context, spread_of(prefill), spread_of(decode)};
  }

  Rates alone(int context) {
    const Request request = requests_.make(context, options_.output + 1);
    const auto begin = Clock::now();
    const auto stream = engine_.submit(request);
    const double first = wait_for(*stream, 1, begin);
    const double rest = wait_for(*stream, options_.output, begin) - first;
    return {context / first, options_.output / rest};
  }

  // All but the last sequence get tokens to spare, so that all of them still decode while the last one is timed.
  BatchRow measure_batch(int batch) {
    const int timed = options_.output * options_.repeats + 1;
    const int prefill_steps = batch * (options_.batch_prompt / engine_step_tokens(batch) + 1);
    std::vector<std::unique_ptr<TokenStream>> streams;
    for (int i = 0; i < batch; ++i) {
      const int spare = i + 1 < batch ? prefill_steps + 1 : 0;
      streams.push_back(engine_.submit(requests_.make(options_.batch_prompt, timed + spare)));
    }
    const auto begin = Clock::now();
    double last = wait_for(*streams.back(), 1, begin);
    std::vector<double> rates;
    for (int i = 0; i < options_.repeats; ++i) {
      const double now = wait_for(*streams.back(), options_.output, begin);
      rates.push_back(batch * options_.output / (now - last));
      last = now;
    }
    if (engine_.stats().preemptions > 0) {
      throw Error(ErrorCode::internal, "latency: the KV cache was too small for the batch");
    }
    return {batch, spread_of(rates)};
  }

  // Prompt tokens that a step has room for beside the decoding sequences.
  int engine_step_tokens(int batch) const { return std::max(1, EngineOptions().max_step_tokens - batch); }

  /// Seconds from `begin` until `count` more tokens have come.
  static double wait_for(TokenStream& stream, int count, Clock::time_point begin) {
    for (int i = 0; i < count; ++i) {
      if (!wait_for_token(stream)) throw Error(ErrorCode::internal, "latency: a sequence ended early");
    }
    return std::chrono::duration<double>(Clock::now() - begin).count();
  }

  Engine& engine_;
  const LatencyOptions& options_;
  RequestMaker requests_;
};

// Just what the longest context and the largest batch need.
EngineOptions engine_for(const LatencyOptions& o) {
  EngineOptions engine;
  const int longest = std::ranges::max(o.contexts), largest = std::ranges::max(o.batches);
  const int timed = o.output * o.repeats + 2 * largest + 2;
  engine.context = std::max(longest + o.output + 1, o.batch_prompt + timed + largest);
  engine.max_sequences = largest;
  engine.max_step_tokens = std::max(engine.max_step_tokens, 2 * largest);
  const auto blocks = [&](int tokens) { return tokens / engine.block_tokens + 2; };
  engine.kv_cache_blocks =
      std::max(blocks(static_cast<int>(engine.context)), largest * blocks(o.batch_prompt + timed + largest));
  return engine;
}

void check(const LatencyOptions& o) {
  check(o.model);
  const auto positive = [](int value) { return value > 0; };
  if (std::ranges::all_of(o.contexts, positive) && std::ranges::all_of(o.batches, positive)) return;
  throw Error(ErrorCode::invalid_argument, "--contexts and --batches are lists of numbers above 0");
}

std::string percent(double part, double whole) { return fmt::format("{:.0f} %", 100 * part / whole); }

// Linears alone: attention and norms come on top of both figures.
std::string of_arithmetic(double tokens_per_second, const TokenCost& cost, const BackendOptions& device,
                          const MachineLimits& limits) {
  const auto [name, limit] = compute_limit(device, limits);
  return percent(2 * tokens_per_second * static_cast<double>(cost.multiplications), limit) + " of " + name;
}

void print_text(const Latencies& latencies, const MachineLimits& limits, const BenchModelOptions& model,
                const MemoryPlan& plan, const TokenCost& cost) {
  fmt::print("{}: {} of weights, KV cache {}\n", describe(model), human_bytes(static_cast<std::uint64_t>(plan.weights)),
             plan.kv_format);
  Table alone({"context, one sequence", "prefill tok/s", "linears", "decode tok/s", "ms/token", "weights read"});
  for (const ContextRow& row : latencies.contexts) {
    const double read = row.decode.median * static_cast<double>(cost.weight_bytes);
    alone.row({std::to_string(row.context), text_of(row.prefill),
               of_arithmetic(row.prefill.median, cost, model.run.device, limits), text_of(row.decode),
               fmt::format("{:.2f}", 1e3 / row.decode.median), percent(read, limits.read()) + " of read"});
  }
  Table together({"sequences together", "decode tok/s", "linears", "ms/step"});
  for (const BatchRow& row : latencies.batches) {
    together.row({std::to_string(row.batch), text_of(row.decode),
                  of_arithmetic(row.decode.median, cost, model.run.device, limits),
                  fmt::format("{:.2f}", 1e3 * row.batch / row.decode.median)});
  }
  fmt::print("\n{}\n{}", alone.text(), together.text());
}

OrderedJson results_json(const Latencies& latencies, const MemoryPlan& plan, const TokenCost& cost,
                         const Json& config) {
  OrderedJson json = {{"config", config},
                      {"weight_bytes", plan.weights},
                      {"weight_bytes_per_token", cost.weight_bytes},
                      {"multiplications_per_token", cost.multiplications},
                      {"kv_format", plan.kv_format},
                      {"kv_bytes_per_token", plan.kv_block / EngineOptions().block_tokens},
                      {"contexts", OrderedJson::array()},
                      {"batches", OrderedJson::array()}};
  for (const ContextRow& row : latencies.contexts) {
    json["contexts"].push_back({{"context", row.context},
                                {"prefill_tokens_per_second", to_json(row.prefill)},
                                {"decode_tokens_per_second", to_json(row.decode)}});
  }
  for (const BatchRow& row : latencies.batches) {
    json["batches"].push_back({{"sequences", row.batch}, {"decode_tokens_per_second", to_json(row.decode)}});
  }
  return json;
}

OrderedJson options_json(const LatencyOptions& o) {
  OrderedJson json = to_json(o.model);
  json["contexts"] = o.contexts;
  json["batches"] = o.batches;
  json["batch_prompt"] = o.batch_prompt;
  json["output"] = o.output;
  json["repeats"] = o.repeats;
  return json;
}

int run_latency(const LatencyOptions& options) {
  check(options);
  const BackendOptions& device = options.model.run.device;
  if (!options.json) print_machine(device);
  const MachineLimits limits = measure_limits(device);
  if (!options.json) print_limits(limits);
  BenchModel model(options.model, engine_for(options));
  const MemoryPlan& plan = model.engine().plan();
  const Latencies latencies = LatencyRun(model.engine(), model.model().config().vocab, options).run();
  const TokenCost cost = token_cost(model.model());
  if (options.json) {
    print_report_json("latency", device, &limits, options_json(options),
                      results_json(latencies, plan, cost, model.model().config().raw));
  } else {
    print_text(latencies, limits, options.model, plan, cost);
  }
  return 0;
}

}  // namespace

std::function<int()> declare_bench_latency(CLI::App& command) {
  auto o = std::make_shared<LatencyOptions>();
  add_bench_model_options(command, o->model);
  add_option(command, "--contexts", o->contexts, "prompt lengths of one sequence alone, 512,2048,8192")->delimiter(',');
  add_option(command, "--batches", o->batches, "how many sequences decode together, 1,4,16,32")->delimiter(',');
  add_option(command, "--batch-prompt", o->batch_prompt, "prompt length of each of them")
      ->check(CLI::Range(1, 1 << 20));
  add_option(command, "--output", o->output, "tokens of one timing")->check(CLI::Range(1, 1 << 20));
  add_option(command, "--repeats", o->repeats, "timings, of which the median counts")->check(CLI::Range(1, 1000));
  add_option(command, "--json", o->json, "print JSON");
  add_kv_cache_options(command, o->model.run);
  add_device_options(command, o->model.run);
  return [o] { return run_latency(*o); };
}

}  // namespace bittern::cli
