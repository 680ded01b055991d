// Accuracy on tasks: reads the file, adds examples, asks one model or two, and counts. How replies are judged is
// quant/tasks.h's.
#include "eval_tasks.h"

#include <bittern/error.h>

#include <cstdio>
#include <map>
#include <memory>

#include "eval_answers.h"
#include "eval_model.h"
#include "eval_output.h"
#include "quant/accuracy.h"
#include "quant/eval_html.h"
#include "quant/html_page.h"
#include "quant/tasks.h"
#include "table.h"

namespace bittern::cli {
namespace {

using quant::figure_text;
using quant::format_number;

struct TaskOptions {
  RunOptions run;
  std::string data, shots_data;
  std::int64_t limit = 0;
  int max_tokens = 128, shots = 0;
  bool chat = false, show_wrong = false;
  ReferenceOptions reference;
  EvalOutput output;
};

// --- tasks ---

/// Takes the first `shots` tasks of each kind out of `tasks`.
std::vector<quant::Task> split_examples(std::vector<quant::Task>& tasks, int shots) {
  std::map<std::string, int> taken;
  std::vector<quant::Task> examples, rest;
  for (quant::Task& task : tasks) {
    (taken[task.kind]++ < shots ? examples : rest).push_back(std::move(task));
  }
  tasks = std::move(rest);
  return examples;
}

std::vector<quant::Task> prepare_tasks(const TaskOptions& options) {
  const bool own_examples = options.shots > 0 && options.shots_data.empty();
  std::vector<quant::Task> tasks = quant::read_tasks(options.data, own_examples ? 0 : options.limit);
  std::vector<quant::Task> examples;
  if (own_examples) examples = split_examples(tasks, options.shots);
  if (options.shots > 0 && !own_examples) examples = quant::read_tasks(options.shots_data);
  if (tasks.empty()) {
    throw Error(ErrorCode::invalid_argument,
                options.data + " holds no task beside the " + std::to_string(examples.size()) + " examples",
                "give examples of their own with --shots-data");
  }
  if (options.limit > 0 && std::ssize(tasks) > options.limit) tasks.resize(static_cast<std::size_t>(options.limit));
  if (options.chat) quant::make_chat(tasks), quant::make_chat(examples);
  quant::add_examples(tasks, examples, options.shots);
  return tasks;
}

// --- counting ---

/// Tasks that every model answered: all, unless the run was stopped.
std::vector<std::size_t> answered(const TaskAnswers& candidate, const TaskAnswers* reference) {
  std::vector<std::size_t> list;
  for (std::size_t i = 0; i < candidate.answers.size(); ++i) {
    if (candidate.answers[i] && (reference == nullptr || reference->answers[i])) list.push_back(i);
  }
  if (list.empty()) throw Error(ErrorCode::cancelled, "stopped before a task was answered");
  return list;
}

std::vector<quant::Answer> judged(const std::vector<quant::Task>& tasks, const std::vector<std::size_t>& which,
                                  const TaskAnswers* answers, bool normalized) {
  std::vector<quant::Answer> list;
  if (answers == nullptr) return list;
  for (const std::size_t i : which) {
    const TaskAnswer& answer = *answers->answers[i];
    if (normalized && !answer.right_normalized) continue;
    list.push_back({tasks[i].kind, normalized ? *answer.right_normalized : answer.right, std::nullopt});
  }
  return list;
}

quant::TaskScores count(const std::vector<quant::Task>& tasks, const std::vector<std::size_t>& which,
                        const TaskAnswers& candidate, const TaskAnswers* reference,
                        const quant::BootstrapOptions& bootstrap) {
  const auto right = judged(tasks, which, &candidate, false), base = judged(tasks, which, reference, false);
  quant::TaskScores scores;
  scores.kinds = quant::score_groups(right, base, bootstrap);
  scores.all = quant::score_all(right, base, bootstrap);
  const auto normalized = judged(tasks, which, &candidate, true),
             normalized_base = judged(tasks, which, reference, true);
  if (!normalized.empty()) {
    scores.normalized = quant::score_groups(normalized, normalized_base, bootstrap);
    scores.normalized.push_back(quant::score_all(normalized, normalized_base, bootstrap));
  }
  for (const std::size_t i : which) {
    const TaskAnswer& answer = *candidate.answers[i];
    if (!answer.right) scores.wrong.push_back({tasks[i].id, tasks[i].expected(), answer.reply});
  }
  return scores;
}

// --- output ---

Json groups_json(const std::vector<quant::GroupScore>& groups) {
  Json json = Json::object();
  for (const quant::GroupScore& group : groups) json[group.group] = quant::to_json(group);
  return json;
}

Json results_json(const quant::TaskScores& scores, const TaskAnswers& candidate, const TaskOptions& options,
                  bool stopped) {
  Json json = quant::to_json(scores.all);
  json["kinds"] = groups_json(scores.kinds);
  if (!scores.normalized.empty()) json["length_normalized"] = groups_json(scores.normalized);
  json["wrong"] = Json::array();
  for (const quant::WrongReply& wrong : scores.wrong) {
    json["wrong"].push_back({{"id", wrong.id}, {"expected", wrong.expected}, {"reply", wrong.reply}});
  }
  json["model"] = candidate.description;
  json["kv_cache"] = candidate.kv_cache;
  json["data"] = options.data;
  json["shots"] = options.shots;
  json["prompt_tokens"] = candidate.prompt_tokens;
  json["generated_tokens"] = candidate.generated_tokens;
  json["seconds"] = candidate.seconds;
  json["stopped"] = stopped;
  json["bootstrap"] = to_json(options.output.bootstrap, "task");
  return json;
}

std::vector<std::string> score_row(const quant::GroupScore& score) {
  std::vector<std::string> row = {score.group, std::to_string(score.accuracy.right),
                                  std::to_string(score.accuracy.total),
                                  figure_text(score.accuracy.value(), score.accuracy.interval, "%.1f", 100)};
  if (score.change) {
    const quant::AccuracyChange& change = *score.change;
    row.push_back(format_number(100 * change.reference.value(), "%.1f"));
    row.push_back(figure_text(change.difference.value, change.difference.interval, "%+.1f", 100));
    row.push_back(std::to_string(change.gained) + ", " + std::to_string(change.lost));
  }
  return row;
}

std::string score_table(const std::vector<quant::GroupScore>& groups) {
  std::vector<std::string> header = {"kind", "right", "of", "accuracy, %"};
  if (groups.front().change) header.insert(header.end(), {"reference, %", "difference", "gained, lost"});
  Table table(header);
  for (const quant::GroupScore& group : groups) table.row(score_row(group));
  return table.text();
}

std::string results_text(const quant::TaskScores& scores, const TaskAnswers& candidate, const TaskAnswers* reference,
                         const TaskOptions& options, bool stopped) {
  std::string text = candidate.description + ", greedy\n";
  if (reference != nullptr) text += "reference  " + reference->description + "\n";
  std::vector<quant::GroupScore> rows = scores.kinds;
  rows.push_back(scores.all);
  text += score_table(rows);
  if (!scores.normalized.empty()) text += "choices by log-likelihood per byte:\n" + score_table(scores.normalized);
  char line[160];
  std::snprintf(line, sizeof(line), "(%.4g %% intervals; %ld prompt and %ld generated tokens in %.1f s)\n",
                100 * options.output.bootstrap.level, static_cast<long>(candidate.prompt_tokens),
                static_cast<long>(candidate.generated_tokens), candidate.seconds);
  text += line + stopped_note(stopped);
  if (!options.show_wrong) return text;
  for (const quant::WrongReply& wrong : scores.wrong) {
    const OrderedJson json = {{"id", wrong.id}, {"expected", wrong.expected}, {"reply", wrong.reply}};
    text += json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
  }
  return text;
}

std::string likelihoods(const TaskAnswer& answer) {
  std::string text;
  if (!answer.choice) return text;
  for (const double value : answer.choice->log_likelihoods) text += (text.empty() ? "" : " ") + csv_number(value);
  return text;
}

std::string csv(const std::vector<quant::Task>& tasks, const std::vector<std::size_t>& which,
                const TaskAnswers& candidate, const TaskAnswers* reference) {
  std::vector<std::string> header = {"id",       "kind",  "type",           "right", "right_normalized",
                                     "expected", "reply", "log_likelihoods"};
  if (reference != nullptr) header.insert(header.end(), {"reference_right", "reference_reply"});
  std::string text = csv_line(header);
  for (const std::size_t i : which) {
    const TaskAnswer& answer = *candidate.answers[i];
    std::vector<std::string> row = {tasks[i].id,
                                    tasks[i].kind,
                                    std::string(quant::task_type_name(tasks[i].type)),
                                    answer.right ? "1" : "0",
                                    !answer.right_normalized   ? ""
                                    : *answer.right_normalized ? "1"
                                                               : "0",
                                    tasks[i].expected(),
                                    answer.reply,
                                    likelihoods(answer)};
    if (reference != nullptr) {
      row.push_back(reference->answers[i]->right ? "1" : "0");
      row.push_back(reference->answers[i]->reply);
    }
    text += csv_line(row);
  }
  return text;
}

quant::EvalPage page(const TaskAnswers& candidate, const TaskAnswers* reference, const TaskOptions& options,
                     bool stopped) {
  return {.title = "Accuracy on tasks",
          .model = candidate.description,
          .reference = reference == nullptr ? "" : reference->description,
          .facts = {{"Data", options.data},
                    {"Examples before each task", std::to_string(options.shots)},
                    {"Prompts", options.chat ? "as messages, through the chat template" : "as the file has them"},
                    {"Longest reply", std::to_string(options.max_tokens) + " tokens, greedy"},
                    interval_fact(options.output.bootstrap, "tasks")},
          .stopped = stopped};
}

int run_tasks(const TaskOptions& options) {
  const std::vector<quant::Task> tasks = prepare_tasks(options);
  EvalRun run("asking");
  const std::int64_t total = std::ssize(tasks) * (options.reference.given() ? 2 : 1);
  std::int64_t done = 0;
  const auto progress = [&] { run.progress(++done, total); };
  const TaskAnswers candidate = answer_tasks(options.run, tasks, options.max_tokens, run, progress);
  std::optional<TaskAnswers> compared;
  if (options.reference.given() && !run.stopped()) {
    const RunOptions reference_options = reference_run(options.run, options.reference, candidate.kv_cache);
    compared = answer_tasks(reference_options, tasks, options.max_tokens, run, progress);
  }
  const TaskAnswers* reference = compared ? &*compared : nullptr;
  const std::vector<std::size_t> which = answered(candidate, reference);
  const quant::TaskScores scores = count(tasks, which, candidate, reference, options.output.bootstrap);
  Json json = results_json(scores, candidate, options, run.stopped());
  if (reference != nullptr) json["reference_model"] = reference->description;
  write_results(
      options.output, json, results_text(scores, candidate, reference, options, run.stopped()),
      [&] { return csv(tasks, which, candidate, reference); },
      [&] { return quant::tasks_page(page(candidate, reference, options, run.stopped()), scores); });
  return run.exit_status();
}

}  // namespace

std::function<int()> declare_eval_tasks(CLI::App& command) {
  auto options = std::make_shared<TaskOptions>();
  add_model_argument(command, options->run.model);
  add_option(command, "--data", options->data,
             "tasks as JSON lines (ours, GSM8K's, MMLU's), a .csv of MMLU, or a directory of them (docs/evaluation.md)")
      ->required()
      ->check(CLI::ExistingPath);
  add_option(command, "--limit", options->limit, "tasks to ask; 0: all")->check(CLI::Range(0, 1 << 30));
  add_option(command, "--max-tokens", options->max_tokens, "longest reply")->check(CLI::Range(1, 1 << 20));
  add_option(command, "--shots", options->shots, "solved examples of the same kind before each task")
      ->check(CLI::Range(0, 1000));
  add_option(command, "--shots-data", options->shots_data,
             "where the examples are; without it the first ones of --data, which are then not asked")
      ->check(CLI::ExistingPath);
  add_option(command, "--chat", options->chat, "ask plain prompts through the model's chat template");
  add_option(command, "--show-wrong", options->show_wrong, "print the wrong replies");
  add_reference_options(command, options->reference, "none");
  add_eval_output(command, options->output, "a row for each task");
  add_engine_options(command, options->run);
  add_device_options(command, options->run);
  return [options] { return run_tasks(*options); };
}

}  // namespace bittern::cli
