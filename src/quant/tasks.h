// Tasks with checkable answers: read from files of several formats, judged without opinion. A generated reply is
// compared with the answer (as text, as a number, as JSON); a choice is the continuation that the model finds most
// likely. It generates nothing itself: replies come from whoever runs the model.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "quant/quality.h"

namespace bittern::quant {

enum class TaskType : std::uint8_t {
  exact,    // the trimmed reply equals an answer
  numeric,  // the number after the last "####", or else the last number of the reply, equals the answer
  choice,   // the likeliest of several continuations is the right one; nothing is generated
  json,     // the reply is JSON, and equal to the answer where there is one
};
std::string_view task_type_name(TaskType type);

struct Task {
  std::string id;    // as the file says, or file and line
  std::string kind;  // what results are grouped by
  TaskType type = TaskType::exact;
  std::string header;                // text in front of the examples and the prompt (MMLU's first line)
  std::string prompt;                // plain text, when `messages` is null
  OrderedJson messages;              // a conversation for the chat template
  std::vector<std::string> answers;  // exact, numeric: any of them is right; json: none or one document
  double tolerance = 0;              // numeric: largest absolute difference
  std::vector<std::string> choices;  // choice: the continuations, as they are appended
  std::size_t right_choice = 0;
  std::string solution;           // what a perfect reply looks like, for few-shot examples
  std::vector<std::string> stop;  // texts that end a generated reply, in plain prompts

  bool is_chat() const { return !messages.is_null(); }
  /// The answer for people: the first one, or the text of the right choice.
  std::string expected() const;
};

/// Reads tasks. `path` is a .jsonl file, a .csv file of MMLU, or a directory with such files, read in the order of
/// their names. A JSON line is one of: our own {"type", "kind", "prompt" or "messages", "answer", "choices",
/// "tolerance"}; GSM8K's {"question", "answer": "... #### 72"}; MMLU's {"question", "subject", "choices", "answer":
/// index}. Stops after `limit` tasks (0: all). Errors: invalid_argument names file and line; not_found, io.
std::vector<Task> read_tasks(const std::filesystem::path& path, std::int64_t limit = 0);
/// The tasks of JSON lines that are in memory; `name` stands for a path in errors and ids.
std::vector<Task> tasks_from_lines(std::string_view text, const std::string& name);
/// At most `limit` tasks (0: all), spread evenly, in their order: files often go from kind to kind.
std::vector<Task> spread(std::vector<Task> tasks, std::int64_t limit);

/// Gives each task the first `shots` examples of its kind (of any kind where none has it) as solved tasks in front of
/// its own prompt; an example with the same prompt as the task is passed over. Error(invalid_argument) where there are
/// fewer than `shots`, or where one is a conversation and the other is not.
void add_examples(std::vector<Task>& tasks, std::span<const Task> examples, int shots);

/// Turns plain prompts into conversations of one message of the user, examples into earlier turns.
void make_chat(std::vector<Task>& tasks);

/// Whether a generated reply solves a task (of any type but choice).
bool is_right(const Task& task, std::string_view reply);

/// The number a reply ends on: after the last "####" where a number follows it, otherwise the last one in the text.
/// Commas between thousands, currency signs and a closing full stop are passed over.
std::optional<double> final_number(std::string_view text);

/// A choice as tokens: the whole sequence, and where the continuation begins.
struct ChoiceTokens {
  std::vector<std::int32_t> ids;
  std::size_t begin = 0;  // > 0: the first token has nothing before it
  std::size_t bytes = 0;  // of the continuation's text, without white space around it
};

struct ChoiceResult {
  std::vector<double> log_likelihoods;  // nats, summed over the continuation's tokens
  std::size_t best = 0;                 // most likely; of equals the first
  std::size_t best_normalized = 0;      // most likely per byte
};

/// Log-likelihood of each continuation. Sequences that differ in their last token alone are run once.
/// Errors: invalid_argument for a sequence that does not fit the model or has nothing to score; invalid_checkpoint for
/// logits that are not finite.
ChoiceResult score_choices(LogitSource& source, std::span<const ChoiceTokens> choices);

/// `whole` = text + continuation, `context` = text, both encoded: where they first differ the continuation begins,
/// which counts a token that straddles the border as part of the continuation.
std::size_t continuation_begin(std::span<const std::int32_t> context, std::span<const std::int32_t> whole);

}  // namespace bittern::quant
