// Two ways to an answer. Generation goes through the engine with kernels whose result for a token does not depend on
// the rest of the batch; where those are not to be had (--compute bf16), sequences run one by one instead.
#include "eval_answers.h"

#include <bittern/error.h>

#include <algorithm>
#include <chrono>
#include <deque>

#include "base/strings.h"
#include "eval_model.h"
#include "model_loader.h"
#include "server/text_generation.h"

namespace bittern::cli {
namespace {

RunOptions repeatable(RunOptions options) {
  if (options.device.compute == "bf16") {
    options.engine.max_sequences = 1;
  } else {
    options.device.deterministic = true;
  }
  return options;
}

/// Asks the tasks that take a generated reply, with a few more submitted than run so that the batch stays full.
class Generator {
 public:
  Generator(server::LoadedModel& model, const std::vector<quant::Task>& tasks, int max_tokens, EvalRun& run,
            const std::function<void()>& progress, TaskAnswers& answers)
      : model_(model), tasks_(tasks), max_tokens_(max_tokens), run_(run), progress_(progress), answers_(answers) {}

  void run(std::size_t window) {
    for (std::size_t i = 0; i < tasks_.size() && !run_.stopped(); ++i) {
      if (tasks_[i].type == quant::TaskType::choice) continue;
      if (pending_.size() == window) finish_oldest();
      pending_.emplace_back(i, submit(tasks_[i]));
    }
    while (!pending_.empty() && !run_.stopped()) finish_oldest();
  }

 private:
  std::vector<std::int32_t> prompt(const quant::Task& task) const {
    return task.is_chat() ? model_.encode_chat(task.messages) : model_.encode_prompt(task.header + task.prompt);
  }

  std::unique_ptr<server::TextGeneration> submit(const quant::Task& task) {
    server::TextRequest request;
    request.request.prompt = prompt(task);
    request.request.sampling.temperature = 0;
    request.request.sampling.max_tokens = max_tokens_;
    request.stop = task.stop;
    try {
      return std::make_unique<server::TextGeneration>(model_, std::move(request));
    } catch (const Error& error) {
      throw Error(error.code(), task.id + ": " + error.message(), error.hint());
    }
  }

  void finish_oldest() {
    auto [index, generation] = std::move(pending_.front());
    pending_.pop_front();
    std::string reply;
    for (bool timed_out = false; !run_.stopped();) {
      const auto event = generation->next_for(std::chrono::milliseconds(100), timed_out);
      if (!event && timed_out) continue;
      if (!event) {
        finish(index, reply, generation->stats());
        return;
      }
      if (event->finish == FinishReason::failed) {
        throw Error(ErrorCode::internal, tasks_[index].id + ": " + event->token.error);
      }
      reply += event->text;
    }
  }

  void finish(std::size_t index, const std::string& reply, const server::GenerationStats& stats) {
    answers_.prompt_tokens += stats.prompt_tokens;
    answers_.generated_tokens += stats.generated_tokens;
    answers_.answers[index] = TaskAnswer{reply, quant::is_right(tasks_[index], reply), std::nullopt, std::nullopt};
    progress_();
  }

  server::LoadedModel& model_;
  const std::vector<quant::Task>& tasks_;
  const int max_tokens_;
  EvalRun& run_;
  const std::function<void()>& progress_;
  TaskAnswers& answers_;
  std::deque<std::pair<std::size_t, std::unique_ptr<server::TextGeneration>>> pending_;
};

/// The choices of a task as tokens.
std::vector<quant::ChoiceTokens> encode_choices(const EvalText& text, const quant::Task& task) {
  const text::Tokenizer& tokenizer = text.tokenizer();
  std::vector<std::int32_t> context;
  if (task.is_chat()) {
    context = text.encode_chat(task.messages);
  } else {
    context = tokenizer.encode(task.header + task.prompt);
  }
  std::vector<quant::ChoiceTokens> list;
  for (const std::string& choice : task.choices) {
    quant::ChoiceTokens tokens;
    tokens.bytes = trim(choice).size();
    if (task.is_chat()) {
      tokens.ids = context;
      tokens.begin = context.size();
      for (const std::int32_t id : tokenizer.encode(choice, {.add_special = false, .parse_special = false})) {
        tokens.ids.push_back(id);
      }
    } else {
      tokens.ids = tokenizer.encode(task.header + task.prompt + choice);
      tokens.begin = quant::continuation_begin(context, tokens.ids);
    }
    list.push_back(std::move(tokens));
  }
  return list;
}

quant::ChoiceResult score(quant::LogitSource& source, const quant::Task& task,
                          const std::vector<quant::ChoiceTokens>& choices) {
  try {
    return quant::score_choices(source, choices);
  } catch (const Error& error) {
    throw Error(error.code(), task.id + ": " + error.message(), error.hint());
  }
}

void answer_choices(const RunOptions& options, const std::vector<quant::Task>& tasks, EvalRun& run,
                    const std::function<void()>& progress, TaskAnswers& answers) {
  EvalText text(options.model);
  std::vector<std::vector<quant::ChoiceTokens>> encoded(tasks.size());
  std::size_t longest = 0;
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    if (tasks[i].type != quant::TaskType::choice) continue;
    encoded[i] = encode_choices(text, tasks[i]);
    for (const auto& choice : encoded[i]) longest = std::max(longest, choice.ids.size());
  }
  std::int64_t context = static_cast<std::int64_t>(longest);
  if (text.made_for() > 0) context = std::min(context, text.made_for());  // what is longer is refused by name
  if (options.engine.context > 0) context = std::min(context, options.engine.context);
  EvalModel model(options, std::move(text), context);
  answers.description = model.description(), answers.kv_cache = model.kv_cache();
  for (std::size_t i = 0; i < tasks.size() && !run.stopped(); ++i) {
    if (encoded[i].empty()) continue;
    const quant::ChoiceResult result = score(model.source(), tasks[i], encoded[i]);
    for (const auto& choice : encoded[i]) answers.prompt_tokens += std::ssize(choice.ids);
    answers.answers[i] =
        TaskAnswer{std::string(trim(tasks[i].choices[result.best])), result.best == tasks[i].right_choice,
                   result.best_normalized == tasks[i].right_choice, result};
    progress();
  }
}

void answer_by_generation(const RunOptions& options, const std::vector<quant::Task>& tasks, int max_tokens,
                          EvalRun& run, const std::function<void()>& progress, TaskAnswers& answers) {
  const std::unique_ptr<server::LoadedModel> model = load(options);
  answers.kv_cache = model->engine().plan().kv_format;
  answers.description = model->files().origin() + ", " + model->backend().description() + ", KV " + answers.kv_cache;
  Generator(*model, tasks, max_tokens, run, progress, answers)
      .run(static_cast<std::size_t>(2 * options.engine.max_sequences));
}

}  // namespace

TaskAnswers answer_tasks(const RunOptions& given, const std::vector<quant::Task>& tasks, int max_tokens, EvalRun& run,
                         const std::function<void()>& progress) {
  const RunOptions options = repeatable(given);
  TaskAnswers answers;
  answers.answers.resize(tasks.size());
  const auto start = std::chrono::steady_clock::now();
  const auto choices = std::count_if(tasks.begin(), tasks.end(),
                                     [](const quant::Task& task) { return task.type == quant::TaskType::choice; });
  if (choices < std::ssize(tasks)) answer_by_generation(options, tasks, max_tokens, run, progress, answers);
  if (choices > 0 && !run.stopped()) answer_choices(options, tasks, run, progress, answers);
  answers.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return answers;
}

}  // namespace bittern::cli
