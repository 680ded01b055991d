// Asking a model tasks: generated replies come from the engine, many at a time, choices from one sequence after the
// other. Answers do not depend on the batch, so a run repeats to the bit.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "eval_output.h"
#include "options.h"
#include "quant/tasks.h"

namespace bittern::cli {

/// What a model said to one task.
struct TaskAnswer {
  std::string reply;                          // generated text; for a choice the text of the chosen one
  bool right = false;                         // for a choice: the likeliest as a whole
  std::optional<bool> right_normalized;       // choices alone: the likeliest per byte
  std::optional<quant::ChoiceResult> choice;  // likewise
};

struct TaskAnswers {
  std::string description, kv_cache;
  std::vector<std::optional<TaskAnswer>> answers;  // by task; none where the run was stopped
  std::int64_t prompt_tokens = 0, generated_tokens = 0;
  double seconds = 0;
};

/// Answers `tasks` with the model of `options`. `progress` is called after each task. Stops early when `run` is
/// stopped.
TaskAnswers answer_tasks(const RunOptions& options, const std::vector<quant::Task>& tasks, int max_tokens, EvalRun& run,
                         const std::function<void()>& progress);

}  // namespace bittern::cli
