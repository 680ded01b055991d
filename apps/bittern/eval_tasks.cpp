// Tasks with checkable answers. A line of the file is {"kind", "messages" or "prompt", "answer"}; a reply is right
// when, without surrounding white space, it equals the answer (or one of them, where "answer" is a list).
#include "eval_tasks.h"

#include <bittern/error.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <deque>
#include <map>
#include <memory>

#include "base/json.h"
#include "base/strings.h"
#include "model_loader.h"
#include "options.h"
#include "server/text_generation.h"
#include "table.h"

namespace bittern::cli {
namespace {

struct TaskOptions {
  RunOptions run;
  std::string data;
  std::int64_t limit = 0;
  int max_tokens = 128;
  bool json = false;
  bool show_wrong = false;
};

struct Task {
  std::string id, kind, prompt;
  OrderedJson messages;  // null: a plain prompt
  std::vector<std::string> answers;
};

Task parse_task(std::string_view line, const std::string& where) {
  const OrderedJson json = OrderedJson::parse(parse_json(line, where).dump());
  Task task;
  const auto text = [&](const char* key, bool required) -> std::string {
    if (json.contains(key) && json.at(key).is_string()) return json.at(key).get<std::string>();
    if (!required) return "";
    throw Error(ErrorCode::invalid_argument, where + ": \"" + key + "\" must be a string");
  };
  task.id = text("id", false);
  task.kind = text("kind", false);
  if (task.kind.empty()) task.kind = "all";
  if (json.contains("messages")) {
    task.messages = json.at("messages");
  } else {
    task.prompt = text("prompt", true);
  }
  if (json.contains("answer") && json.at("answer").is_array()) {
    for (const auto& answer : json.at("answer"))
      task.answers.push_back(answer.is_string() ? answer.get<std::string>() : answer.dump());
  } else {
    task.answers.push_back(text("answer", true));
  }
  return task;
}

std::vector<Task> read_tasks(const TaskOptions& options) {
  const std::string text = read_text(options.data);
  std::vector<Task> tasks;
  std::size_t number = 0;
  for (const std::string_view line : split(text, '\n')) {
    ++number;
    if (trim(line).empty()) continue;
    tasks.push_back(parse_task(line, options.data + ", line " + std::to_string(number)));
    if (options.limit > 0 && static_cast<std::int64_t>(tasks.size()) == options.limit) break;
  }
  if (tasks.empty()) throw Error(ErrorCode::invalid_argument, options.data + " holds no task");
  return tasks;
}

struct Score {
  int right = 0, total = 0;
  double accuracy() const { return total > 0 ? static_cast<double>(right) / total : 0; }
};

// Half width of Wilson's 95 % interval, which stays sensible near 0 and 1.
double wilson_half_width(const Score& score) {
  const double z = 1.96, n = score.total, p = score.accuracy();
  return z / (1 + z * z / n) * std::sqrt(p * (1 - p) / n + z * z / (4 * n * n));
}

class TaskRun {
 public:
  TaskRun(server::LoadedModel& model, const TaskOptions& options) : model_(model), options_(options) {}

  void run(const std::vector<Task>& tasks) {
    const auto start = std::chrono::steady_clock::now();
    const auto window = static_cast<std::size_t>(2 * options_.run.engine.max_sequences);
    for (const Task& task : tasks) {
      if (pending_.size() == window) finish_oldest();
      pending_.emplace_back(&task, submit(task));
    }
    while (!pending_.empty()) finish_oldest();
    seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

  Score total() const {
    Score sum;
    for (const auto& [kind, score] : scores_) {
      sum.right += score.right;
      sum.total += score.total;
    }
    return sum;
  }

  OrderedJson json() const {
    OrderedJson kinds = OrderedJson::object();
    for (const auto& [kind, score] : scores_) {
      kinds[kind] = {{"right", score.right}, {"total", score.total}, {"accuracy", score.accuracy()}};
    }
    const Score sum = total();
    return {{"accuracy", sum.accuracy()},
            {"interval", wilson_half_width(sum)},
            {"right", sum.right},
            {"total", sum.total},
            {"kinds", kinds},
            {"prompt_tokens", prompt_tokens_},
            {"generated_tokens", generated_tokens_},
            {"seconds", seconds_},
            {"wrong", wrong_}};
  }

  void print() const {
    Table table({"kind", "right", "of", "accuracy"});
    const auto row = [&](const std::string& name, const Score& score) {
      char percent[32];
      std::snprintf(percent, sizeof(percent), "%.1f %%", 100 * score.accuracy());
      table.row({name, std::to_string(score.right), std::to_string(score.total), percent});
    };
    for (const auto& [kind, score] : scores_) row(kind, score);
    const Score sum = total();
    row("all", sum);
    std::printf("%s  95 %% interval of all: +/- %.1f; %ld prompt and %ld generated tokens in %.1f s\n",
                table.text().c_str(), 100 * wilson_half_width(sum), static_cast<long>(prompt_tokens_),
                static_cast<long>(generated_tokens_), seconds_);
    if (!options_.show_wrong) return;
    for (const auto& wrong : wrong_)
      std::printf("%s\n", wrong.dump(-1, ' ', false, OrderedJson::error_handler_t::replace).c_str());
  }

 private:
  std::unique_ptr<server::TextGeneration> submit(const Task& task) {
    server::TextRequest request;
    request.request.prompt =
        task.messages.is_null() ? model_.encode_prompt(task.prompt) : model_.encode_chat(task.messages);
    request.request.sampling.temperature = 0;
    request.request.sampling.max_tokens = options_.max_tokens;
    return std::make_unique<server::TextGeneration>(model_, std::move(request));
  }

  void finish_oldest() {
    auto [task, generation] = std::move(pending_.front());
    pending_.pop_front();
    std::string reply;
    while (const auto event = generation->next()) {
      if (event->finish == FinishReason::failed) throw Error(ErrorCode::internal, task->id + ": " + event->token.error);
      reply += event->text;
    }
    prompt_tokens_ += generation->stats().prompt_tokens;
    generated_tokens_ += generation->stats().generated_tokens;
    judge(*task, reply);
  }

  void judge(const Task& task, const std::string& reply) {
    bool right = false;
    for (const std::string& answer : task.answers) right = right || trim(reply) == trim(answer);
    Score& score = scores_[task.kind];
    ++score.total;
    score.right += right ? 1 : 0;
    if (!right) wrong_.push_back({{"id", task.id}, {"expected", task.answers[0]}, {"reply", reply}});
  }

  server::LoadedModel& model_;
  const TaskOptions& options_;
  std::deque<std::pair<const Task*, std::unique_ptr<server::TextGeneration>>> pending_;
  std::map<std::string, Score> scores_;
  OrderedJson wrong_ = OrderedJson::array();
  std::int64_t prompt_tokens_ = 0, generated_tokens_ = 0;
  double seconds_ = 0;
};

int run_tasks(const TaskOptions& options) {
  const std::vector<Task> tasks = read_tasks(options);
  const std::unique_ptr<server::LoadedModel> model = load(options.run);
  TaskRun run(*model, options);
  run.run(tasks);
  if (options.json) {
    OrderedJson json = run.json();
    json["model"] = model->files().origin();
    json["kv_cache"] = model->engine().plan().kv_format;
    json["data"] = options.data;
    std::printf("%s\n", json.dump(2, ' ', false, OrderedJson::error_handler_t::replace).c_str());
  } else {
    std::printf("%s, KV %s, greedy\n", model->files().origin().c_str(), model->engine().plan().kv_format.c_str());
    run.print();
  }
  return 0;
}

}  // namespace

std::function<int()> declare_eval_tasks(CLI::App& command) {
  auto options = std::make_shared<TaskOptions>();
  add_model_argument(command, options->run.model);
  add_option(command, "--data", options->data, "JSON lines with kind, messages or prompt, and answer")
      ->required()
      ->check(CLI::ExistingFile);
  add_option(command, "--limit", options->limit, "tasks to ask; 0: all")->check(CLI::Range(0, 1 << 30));
  add_option(command, "--max-tokens", options->max_tokens, "longest answer")->check(CLI::Range(1, 1 << 20));
  add_option(command, "--show-wrong", options->show_wrong, "print the wrong answers");
  add_option(command, "--json", options->json, "print JSON");
  add_engine_options(command, options->run);
  add_device_options(command, options->run);
  return [options] { return run_tasks(*options); };
}

}  // namespace bittern::cli
