// Reading, and cutting to what fits.
#include "tune_conditions.h"

#include <bittern/error.h>
#include <bittern/version.h>
#include <fmt/core.h>

#include <algorithm>

#include "base/sha256.h"
#include "eval_model.h"
#include "evaluation_source.h"
#include "model_source.h"
#include "models/config.h"
#include "models/model.h"
#include "tune_weights.h"

namespace bittern::cli {
namespace {

/// The context and the sequences to serve with, fixed so that every candidate is planned for the same.
void fix_serving(RunOptions& run, const ModelConfig& config) {
  constexpr std::int64_t kUsual = 4096;
  EngineOptions& engine = run.engine;
  if (engine.context == 0) engine.context = std::min<std::int64_t>(config.max_positions, kUsual);
  if (engine.kv_cache_blocks != 0 || run.kv_cache_memory != "auto") return;
  const std::int64_t blocks = (engine.context + engine.block_tokens - 1) / engine.block_tokens;
  engine.kv_cache_blocks = blocks * engine.max_sequences;
}

void fit_to_context(TuneConditions& conditions) {
  const auto context = static_cast<int>(conditions.run.engine.context);
  conditions.window = std::min<std::int64_t>(conditions.window, context);
  engine::SpeedOptions& speed = conditions.speed;
  speed.sequences = conditions.run.engine.max_sequences;
  speed.output = std::min(speed.output, std::max(2, context / 4));
  speed.prompt = std::min(speed.prompt, context - speed.output);
  conditions.generation_prompt = std::min(conditions.generation_prompt, std::max(1, context / 8));
  conditions.generation_tokens = std::min(conditions.generation_tokens, context - conditions.generation_prompt);
}

}  // namespace

quant::Evaluation read_tune_text(const ModelFiles& files, const TuneOptions& options) {
  const std::string_view data = options.data;
  if (data.ends_with(".jsonl") || data.ends_with(".json") || data.ends_with(".parquet")) {
    CalibrationSourceOptions source = options.calibration;
    source.data = options.data;
    source.samples = 100000;
    const quant::CalibrationData records = read_calibration(files, source);
    quant::Evaluation evaluation;
    evaluation.name = records.name;
    evaluation.sha256 = records.sha256;
    for (const auto& sample : records.samples)
      evaluation.text.insert(evaluation.text.end(), sample.begin(), sample.end());
    evaluation.bos = opening_token(EvalText(options.conditions.run.model).tokenizer());
    return evaluation;
  }
  quant::Evaluation evaluation = read_evaluation(files, {.data = options.data});
  if (evaluation.text.empty()) {
    throw Error(ErrorCode::invalid_argument, "no text to measure quality on: " + evaluation.absent,
                "name one with --data");
  }
  return evaluation;
}

TuneConditions make_conditions(const TuneOptions& options, const ModelFiles& files, const quant::Evaluation& text) {
  TuneConditions conditions = options.conditions;
  fix_serving(conditions.run, load_config(files));
  fit_to_context(conditions);
  conditions.text = text.text;
  conditions.bos = text.bos;
  if (!options.tasks.empty()) {
    conditions.tasks = quant::spread(quant::read_tasks(options.tasks), options.task_limit);
  } else if (is_embedded(files)) {
    conditions.tasks =
        quant::spread(quant::tasks_from_lines(embedded_heldout_tasks(), kEmbeddedHeldoutTasks), options.task_limit);
  }
  if (options.no_recall) return conditions;
  quant::RecallOptions recall;
  const std::int64_t longest = conditions.run.engine.context;
  if (options.recall_length > longest) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("--recall-length {} is beyond the context of {}", options.recall_length, longest),
                "plant names in a shorter text, or raise --context");
  }
  recall.lengths = {options.recall_length > 0 ? options.recall_length : std::min<std::int64_t>(longest, 2048)};
  recall.samples = options.recall_samples;
  conditions.recall = recall;
  return conditions;
}

Json conditions_json(const TuneConditions& c, const TuneOptions& options, const quant::Evaluation& text,
                     const std::string& backend) {
  Sha256 tasks;
  for (const quant::Task& task : c.tasks) tasks.update(task.prompt + task.messages.dump() + task.expected() + "\n");
  const EngineOptions& engine = c.run.engine;
  return {{"version", kVersion},
          {"backend", backend},
          {"compute", c.run.device.compute},
          {"kernel", c.run.device.kernel_pin},
          {"deterministic", c.run.device.deterministic},
          {"kv_cache", c.run.kv_cache},
          {"kv_params", c.run.kv_params},
          {"chat_template", c.run.chat_template},
          {"text", {{"name", text.name}, {"sha256", text.sha256}, {"window", c.window}, {"windows", c.windows}}},
          {"tasks",
           {{"file", options.tasks}, {"count", c.tasks.size()}, {"sha256", tasks.finish()}, {"tokens", c.task_tokens}}},
          {"recall", c.recall ? Json({{"length", c.recall->lengths.front()}, {"samples", c.recall->samples}}) : Json()},
          {"generations", {{"count", c.generations}, {"prompt", c.generation_prompt}, {"tokens", c.generation_tokens}}},
          {"serving",
           {{"context", engine.context},
            {"sequences", engine.max_sequences},
            {"blocks", engine.kv_cache_blocks},
            {"kv_cache_memory", c.run.kv_cache_memory},
            {"block_tokens", engine.block_tokens},
            {"step_tokens", engine.max_step_tokens}}},
          {"speed", {{"prompt", c.speed.prompt}, {"output", c.speed.output}, {"repeats", c.speed.repeats}}},
          {"calibration", calibration_mark(options.calibration)}};
}

}  // namespace bittern::cli
