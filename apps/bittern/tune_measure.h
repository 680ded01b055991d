// One way to run a model, measured: quality against the model as it is, memory as it will be served, and speed on this
// machine. What is measured is the same for every way; which ways are tried, quant/decision.h says.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/speed.h"
#include "eval_output.h"
#include "options.h"
#include "quant/decision.h"
#include "quant/recall.h"
#include "quant/tasks.h"

namespace bittern::cli {

/// What all candidates are measured on.
struct TuneConditions {
  RunOptions run;  // the original model, with the context and the sequences it is to be served with
  std::vector<std::int32_t> text;
  std::int32_t bos = -1;           // opens each window of the text
  std::int64_t window = 512;       // tokens of a window
  std::int64_t windows = 16;       // at most
  std::vector<quant::Task> tasks;  // none: not measured
  int task_tokens = 128;           // longest reply
  std::optional<quant::RecallOptions> recall;
  int generations = 4;  // long ones, from prompts out of the text; 0: none
  int generation_prompt = 32, generation_tokens = 256;
  engine::SpeedOptions speed;
};

struct TuneMeasurement {
  quant::Measured measured;
  std::vector<std::vector<std::int32_t>> generations;
};
Json to_json(const TuneMeasurement& measurement);
/// Errors as from_json() of base/fields.h, naming `what`.
TuneMeasurement measurement_from_json(const Json& json, const std::string& what);

/// The options that run `candidate`, whose weights are in `model`.
RunOptions run_options_of(const TuneConditions& conditions, const quant::Candidate& candidate,
                          const std::string& model);

/// `plain` is the measurement of the model as it is; null while that is made. Error(cancelled) when `run` is stopped;
/// those of loading, evaluating and running a model.
TuneMeasurement measure_candidate(const TuneConditions& conditions, const quant::Candidate& candidate,
                                  const std::string& model, const TuneMeasurement* plain, EvalRun& run);

}  // namespace bittern::cli
