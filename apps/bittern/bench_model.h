// The model a benchmark measures: MODEL of the command line, or a configuration with random weights, ready with an
// engine made for the lengths and batches to be measured.
#pragma once

#include <bittern/engine.h>

#include <memory>
#include <string>

#include "models/random_weights.h"
#include "options.h"
#include "server/loaded_model.h"

namespace bittern::cli {

struct BenchModelOptions {
  RunOptions run;
  std::string random_weights;  // a configuration; empty: run.model as it is
  std::string weights = "w4a16", head_weights = "bf16";
  int group_size = 128;
};
/// MODEL, --random-weights and what goes with it.
void add_bench_model_options(CLI::App& command, BenchModelOptions& options);
OrderedJson to_json(const BenchModelOptions& options);
/// "random weights of qwen2.5-0.5b, w4a16 g128, head bf16", or the name of the model.
std::string describe(const BenchModelOptions& options);
/// The formats the options name. Error(invalid_argument) names the option.
RandomWeights random_weights_of(const BenchModelOptions& options);

/// Refuses what cannot be measured, before anything is. Error(invalid_argument) for both a MODEL and random weights,
/// and for KV parameters of random weights; those of config_by_name_or_file and random_weights_of.
void check(const BenchModelOptions& options);

/// What one decoded token costs in the linears: their weights are read once, and each is multiplied with once.
struct TokenCost {
  std::int64_t weight_bytes = 0;
  std::int64_t multiplications = 0;
};
TokenCost token_cost(Model& model);

class BenchModel {
 public:
  /// `engine`: what the benchmark needs of it; `options.run.engine` and a workspace's settings are not asked.
  /// Errors as check(), those of loading and of make_engine.
  BenchModel(const BenchModelOptions& options, EngineOptions engine);

  Engine& engine() { return loaded_ ? loaded_->engine() : *engine_; }
  Model& model() { return loaded_ ? loaded_->model() : *model_; }

 private:
  std::unique_ptr<server::LoadedModel> loaded_;  // MODEL, or the next three
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Engine> engine_;
};

}  // namespace bittern::cli
