// Judging replies and choices, and few-shot examples. What files look like is in task_formats.cpp.
#include "quant/tasks.h"

#include <bittern/error.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/strings.h"

namespace bittern::quant {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// Reads the digits at `at`, skipping commas between thousands; moves `at` behind them.
std::string digits(std::string_view text, std::size_t& at) {
  std::string out;
  const auto thousands = [&](std::size_t i) {
    const auto digit = [&](std::size_t j) { return j < text.size() && is_digit(text[j]); };
    return text[i] == ',' && digit(i + 1) && digit(i + 2) && digit(i + 3) && !digit(i + 4);
  };
  while (at < text.size() && (is_digit(text[at]) || (!out.empty() && thousands(at)))) {
    if (text[at] != ',') out += text[at];
    ++at;
  }
  return out;
}

/// The number that starts at `at`, which is moved behind it; nothing when none does.
std::optional<double> number_at(std::string_view text, std::size_t& at) {
  std::size_t i = at;
  // A minus sign belongs to the number unless it stands behind a word or another number, as in "5-3".
  const bool negative = text[i] == '-' && (i == 0 || !std::isalnum(static_cast<unsigned char>(text[i - 1])));
  if (text[i] == '-') ++i;
  if (i < text.size() && text[i] == '$') ++i;
  std::string number = digits(text, i);
  if (i + 1 < text.size() && text[i] == '.' && is_digit(text[i + 1])) {
    number += '.';
    number += digits(text, ++i);
  }
  double value = 0;
  const auto [end, status] = std::from_chars(number.data(), number.data() + number.size(), value);
  if (number.empty() || status != std::errc() || end != number.data() + number.size()) return std::nullopt;
  at = i;
  return negative ? -value : value;
}

std::optional<double> last_number(std::string_view text) {
  std::optional<double> last;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t before = i;
    if (is_digit(text[i]) || text[i] == '-' || text[i] == '.') {
      if (const auto number = number_at(text, i)) last = number;
    }
    if (i == before) ++i;
  }
  return last;
}

std::optional<double> first_number(std::string_view text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (is_digit(text[i]) || text[i] == '-' || text[i] == '.') {
      if (const auto number = number_at(text, i)) return number;
    }
  }
  return std::nullopt;
}

bool equals_number(const Task& task, std::string_view reply) {
  const std::optional<double> got = final_number(reply);
  if (!got) return false;
  return std::any_of(task.answers.begin(), task.answers.end(), [&](const std::string& answer) {
    const std::optional<double> wanted = final_number(answer);
    return wanted && std::abs(*got - *wanted) <= task.tolerance;
  });
}

bool equals_json(const Task& task, std::string_view reply) {
  try {
    const Json got = parse_json(trim(reply), "reply");
    return task.answers.empty() || got == parse_json(task.answers.front(), "answer");
  } catch (const Error&) {
    return false;
  }
}

/// Whether `a` and `b` are one run of the model, which sees all but the last token.
bool same_input(const ChoiceTokens& a, const ChoiceTokens& b) {
  return a.begin == b.begin && a.ids.size() == b.ids.size() &&
         std::equal(a.ids.begin(), a.ids.end() - 1, b.ids.begin());
}

void check(const LogitSource& source, std::span<const ChoiceTokens> choices) {
  for (const ChoiceTokens& choice : choices) {
    if (choice.begin == 0 || choice.begin >= choice.ids.size()) {
      throw Error(ErrorCode::invalid_argument, "a choice has no token to score",
                  "every choice needs text, and text or a BOS token before it");
    }
    if (std::ssize(choice.ids) > source.max_context()) {
      throw Error(ErrorCode::invalid_argument,
                  "a choice with its prompt takes " + std::to_string(choice.ids.size()) + " tokens, this model holds " +
                      std::to_string(source.max_context()),
                  "ask fewer examples with --shots, or raise --context where the model allows it");
    }
  }
}

/// One run for all choices of `group` (indices), which share their input.
void score_group(LogitSource& source, std::span<const ChoiceTokens> choices, const std::vector<std::size_t>& group,
                 std::vector<double>& scores) {
  const ChoiceTokens& first = choices[group.front()];
  const std::size_t inputs = first.ids.size() - 1;
  std::vector<bool> want(inputs, false);
  for (std::size_t i = first.begin - 1; i < inputs; ++i) want[i] = true;
  source.run(std::span(first.ids).first(inputs), want, [&](std::int64_t index, std::span<const float> logits) {
    for (const std::size_t choice : group) {
      const std::int32_t next = choices[choice].ids[static_cast<std::size_t>(index) + 1];
      scores[choice] -= token_nll(logits, next, "at token " + std::to_string(index) + " of a choice");
    }
  });
}

/// Examples for one task: those of its kind, or all where none is of its kind.
std::vector<const Task*> pick_examples(const Task& task, std::span<const Task> examples, int shots) {
  const bool same_kind =
      std::any_of(examples.begin(), examples.end(), [&](const Task& example) { return example.kind == task.kind; });
  std::vector<const Task*> picked;
  for (const Task& example : examples) {
    if (std::ssize(picked) == shots) break;
    if (same_kind && example.kind != task.kind) continue;
    if (example.prompt == task.prompt && example.messages == task.messages) continue;
    picked.push_back(&example);
  }
  if (std::ssize(picked) < shots) {
    throw Error(ErrorCode::invalid_argument,
                "--shots asks for " + std::to_string(shots) + " examples, there are " + std::to_string(picked.size()) +
                    " for " + task.id + " of kind " + task.kind,
                "give a file with more with --shots-data, or ask fewer");
  }
  return picked;
}

std::string plain_examples(const std::vector<const Task*>& examples) {
  std::string text;
  for (const Task* example : examples) text += example->prompt + example->solution + "\n\n";
  return text;
}

OrderedJson turn(const char* role, std::string_view content) { return {{"role", role}, {"content", content}}; }

OrderedJson chat_examples(const std::vector<const Task*>& examples) {
  OrderedJson turns = OrderedJson::array();
  for (const Task* example : examples) {
    for (const OrderedJson& message : example->messages) turns.push_back(message);
    turns.push_back(turn("assistant", trim(example->solution)));
  }
  return turns;
}

}  // namespace

std::string_view task_type_name(TaskType type) {
  constexpr std::string_view kNames[] = {"exact", "numeric", "choice", "json"};
  return kNames[static_cast<std::size_t>(type)];
}

std::string Task::expected() const {
  if (type == TaskType::choice) return std::string(trim(choices[right_choice]));
  return answers.empty() ? "JSON" : answers.front();
}

std::optional<double> final_number(std::string_view text) {
  if (const auto mark = text.rfind("####"); mark != std::string_view::npos) {
    if (const auto number = first_number(text.substr(mark + 4))) return number;
  }
  return last_number(text);
}

bool is_right(const Task& task, std::string_view reply) {
  if (task.type == TaskType::numeric) return equals_number(task, reply);
  if (task.type == TaskType::json) return equals_json(task, reply);
  return std::any_of(task.answers.begin(), task.answers.end(),
                     [&](const std::string& answer) { return trim(reply) == trim(answer); });
}

ChoiceResult score_choices(LogitSource& source, std::span<const ChoiceTokens> choices) {
  check(source, choices);
  ChoiceResult result;
  result.log_likelihoods.assign(choices.size(), 0);
  std::vector<bool> done(choices.size(), false);
  for (std::size_t i = 0; i < choices.size(); ++i) {
    if (done[i]) continue;
    std::vector<std::size_t> group;
    for (std::size_t j = i; j < choices.size(); ++j) {
      if (!done[j] && same_input(choices[i], choices[j])) group.push_back(j), done[j] = true;
    }
    score_group(source, choices, group, result.log_likelihoods);
  }
  const auto per_byte = [&](std::size_t i) {
    return result.log_likelihoods[i] / static_cast<double>(std::max<std::size_t>(choices[i].bytes, 1));
  };
  for (std::size_t i = 1; i < choices.size(); ++i) {
    if (result.log_likelihoods[i] > result.log_likelihoods[result.best]) result.best = i;
    if (per_byte(i) > per_byte(result.best_normalized)) result.best_normalized = i;
  }
  return result;
}

std::size_t continuation_begin(std::span<const std::int32_t> context, std::span<const std::int32_t> whole) {
  const std::size_t common = std::min(context.size(), whole.size());
  std::size_t begin = 0;
  while (begin < common && context[begin] == whole[begin]) ++begin;
  return begin;
}

void add_examples(std::vector<Task>& tasks, std::span<const Task> examples, int shots) {
  if (shots <= 0) return;
  std::vector<Task> result = tasks;  // prompts are compared with each other, so none may change meanwhile
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    const auto picked = pick_examples(tasks[i], examples, shots);
    for (const Task* example : picked) {
      if (example->is_chat() == tasks[i].is_chat()) continue;
      throw Error(ErrorCode::invalid_argument,
                  example->id + " is an example for " + tasks[i].id + ", but only one of them is a conversation",
                  "take examples from a file of the same format");
    }
    if (tasks[i].is_chat()) {
      OrderedJson turns = chat_examples(picked);
      // A system message stays in front.
      const bool system = !tasks[i].messages.empty() && tasks[i].messages.front().value("role", "") == "system";
      std::size_t place = system ? 1 : 0;
      OrderedJson messages = OrderedJson::array();
      for (std::size_t m = 0; m < place; ++m) messages.push_back(tasks[i].messages[m]);
      for (const OrderedJson& message : turns) {
        if (message.value("role", "") != "system") messages.push_back(message);
      }
      for (std::size_t m = place; m < tasks[i].messages.size(); ++m) messages.push_back(tasks[i].messages[m]);
      result[i].messages = std::move(messages);
    } else {
      result[i].prompt = plain_examples(picked) + tasks[i].prompt;
    }
  }
  tasks = std::move(result);
}

void make_chat(std::vector<Task>& tasks) {
  for (Task& task : tasks) {
    if (task.is_chat()) continue;
    task.messages = OrderedJson::array({turn("user", task.header + task.prompt)});
    task.header.clear(), task.prompt.clear();
    task.stop.clear();  // the reply ends with its turn
    for (std::string& choice : task.choices) choice = std::string(trim(choice));
    task.solution = std::string(trim(task.solution));
  }
}

}  // namespace bittern::quant
