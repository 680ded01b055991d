// Two ways to the same thing: load, or make up.
#include "bench_model.h"

#include <bittern/error.h>
#include <fmt/core.h>

#include "model_loader.h"
#include "model_source.h"
#include "nn/linear.h"
#include "published_configs.h"

namespace bittern::cli {
namespace {

// An embedding is read row by row, unless it is the output head too.
class CostCounter final : public nn::Visitor {
 public:
  void linear(const std::string&, nn::Linear& linear) override { add(linear.bytes(), linear.out(), linear.in()); }
  void norm(const std::string&, nn::RmsNorm&) override {}
  void embedding(const std::string&, nn::Embedding& embedding) override {
    if (embedding.tied()) add(embedding.bytes(), embedding.vocab(), embedding.width());
  }
  TokenCost cost;

 private:
  void add(std::int64_t bytes, std::int64_t out, std::int64_t in) {
    cost.weight_bytes += bytes;
    cost.multiplications += out * in;
  }
};

}  // namespace

void check(const BenchModelOptions& options) {
  if (options.random_weights.empty()) return;
  if (!options.run.model.empty()) {
    throw Error(ErrorCode::invalid_argument, "both MODEL and --random-weights are given",
                "a model has its own weights: leave out one of them");
  }
  if (!options.run.kv_params.empty()) {
    throw Error(ErrorCode::invalid_argument, "--kv-params is given with --random-weights",
                "parameters belong to the weights they were calibrated with: leave out one of them");
  }
  static_cast<void>(config_by_name_or_file(options.random_weights));
  static_cast<void>(random_weights_of(options));
}

TokenCost token_cost(Model& model) {
  CostCounter counter;
  model.visit(counter);
  return counter.cost;
}

void add_bench_model_options(CLI::App& command, BenchModelOptions& o) {
  const char* group = "Random weights";
  add_model_argument(command, o.run.model);
  add_option(command, "--random-weights", o.random_weights,
             "time this configuration with made-up weights: the path of a config.json, or qwen2.5-0.5b, llama-3.2-1b, "
             "llama-2-7b")
      ->group(group);
  CLI::Option* random = command.get_option("--random-weights");
  add_option(command, "--weights", o.weights, "their format: f32, f16, bf16, w4a16, w8a16, w8a8")
      ->needs(random)
      ->group(group);
  add_option(command, "--group-size", o.group_size, "inputs that share a scale, of w4a16 and w8a16")
      ->needs(random)
      ->check(CLI::Range(1, 1 << 20))
      ->group(group);
  add_option(command, "--head-weights", o.head_weights, "format of the output head, groups of 32")
      ->needs(random)
      ->group(group);
}

std::string describe(const BenchModelOptions& o) {
  if (!o.random_weights.empty()) {
    const RandomWeights formats = random_weights_of(o);
    return fmt::format("random weights of {}, {}, head {}", o.random_weights, formats.linears.name(),
                       formats.head.name());
  }
  return o.run.model.empty() ? "the embedded model" : o.run.model;
}

OrderedJson to_json(const BenchModelOptions& o) {
  if (o.random_weights.empty()) return {{"model", o.run.model.empty() ? "embedded" : o.run.model}};
  return {{"random_weights", o.random_weights},
          {"weights", o.weights},
          {"group_size", o.group_size},
          {"head_weights", o.head_weights}};
}

RandomWeights random_weights_of(const BenchModelOptions& o) {
  constexpr std::int64_t kHeadGroup = 32;
  RandomWeights weights;
  weights.linears = parse_weight_format(o.weights, o.group_size);
  weights.head = parse_weight_format(o.head_weights, kHeadGroup);
  return weights;
}

BenchModel::BenchModel(const BenchModelOptions& options, EngineOptions engine) {
  check(options);
  engine.kv_cache = options.run.kv_cache;
  if (options.random_weights.empty()) {
    RunOptions run = options.run;
    run.engine = engine;
    loaded_ = load_as_asked(run);
    return;
  }
  const ModelConfig config = config_by_name_or_file(options.random_weights);
  backend_ = make_backend(options.run.backend, options.run.device);
  model_ = random_model(config, *backend_, random_weights_of(options));
  engine_ = make_engine(*model_, *backend_, engine);
}

}  // namespace bittern::cli
