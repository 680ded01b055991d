// Task files: our JSON lines, GSM8K's and MMLU's as they are published. A row becomes a Task by one function for each
// format; every error names file and line.
#include <bittern/error.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <iterator>

#include "base/strings.h"
#include "quant/tasks.h"

namespace bittern::quant {
namespace {

[[noreturn]] void refuse(const std::string& where, const std::string& reason, std::string hint = {}) {
  throw Error(ErrorCode::invalid_argument, where + ": " + reason, std::move(hint));
}

std::string read_bytes(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  if (!file) throw Error(ErrorCode::io, "cannot read " + path.string());
  return text;
}

TaskType parse_type(const std::string& name, const std::string& where) {
  constexpr std::array<std::string_view, 4> kNames = {"exact", "numeric", "choice", "json"};
  const auto found = std::find(kNames.begin(), kNames.end(), name);
  if (found != kNames.end()) return static_cast<TaskType>(found - kNames.begin());
  const std::string hint = did_you_mean(name, kNames);
  refuse(where, "unknown task type '" + name + "'", hint.empty() ? "known: exact, numeric, choice, json" : hint);
}

std::string answer_text(const Json& value) { return value.is_string() ? value.get<std::string>() : value.dump(); }

std::vector<std::string> read_choices(const Json& line, const std::string& where) {
  const auto choices = require<std::vector<std::string>>(line, "choices", where);
  if (choices.size() < 2) refuse(where, "\"choices\" has " + std::to_string(choices.size()) + " entries, it takes 2");
  return choices;
}

/// The index of the right choice: given as a number, as the choice's text, or as a letter.
std::size_t right_choice(const Json& answer, const std::vector<std::string>& choices, const std::string& where) {
  if (answer.is_number_integer()) {
    const auto index = answer.get<std::int64_t>();
    if (index >= 0 && index < std::ssize(choices)) return static_cast<std::size_t>(index);
  }
  if (answer.is_string()) {
    const auto text = answer.get<std::string>();
    const auto found = std::find(choices.begin(), choices.end(), text);
    if (found != choices.end()) return static_cast<std::size_t>(found - choices.begin());
    const int letter = text.size() == 1 ? text[0] - 'A' : -1;
    if (letter >= 0 && letter < std::ssize(choices)) return static_cast<std::size_t>(letter);
  }
  refuse(where,
         "\"answer\" is " + describe_json(answer) + ", which is none of the " + std::to_string(choices.size()) +
             " choices",
         "give its index from 0, its text, or its letter");
}

/// A continuation as it follows the prompt: with a space between unless one of them has it.
std::string continuation(const std::string& prompt, const std::string& choice) {
  const bool space = !prompt.empty() && !std::isspace(static_cast<unsigned char>(prompt.back())) && !choice.empty() &&
                     !std::isspace(static_cast<unsigned char>(choice.front()));
  return (space ? " " : "") + choice;
}

void read_answers(const Json& line, Task& task, const std::string& where) {
  const auto answer = line.find("answer");
  if (answer == line.end() || answer->is_null()) {
    if (task.type == TaskType::json) return;  // any JSON is right
    refuse(where, "\"answer\" is missing");
  }
  if (task.type == TaskType::choice) {
    const std::vector<std::string> choices = read_choices(line, where);
    task.right_choice = right_choice(*answer, choices, where);
    for (const std::string& choice : choices) {
      task.choices.push_back(task.is_chat() ? choice : continuation(task.prompt, choice));
    }
    task.solution = task.choices[task.right_choice];
    return;
  }
  if (task.type == TaskType::json) {
    task.answers.push_back(answer->dump());
  } else if (answer->is_array()) {
    for (const Json& one : *answer) task.answers.push_back(answer_text(one));
  } else if (answer->is_string() || (task.type == TaskType::numeric && answer->is_number())) {
    task.answers.push_back(answer_text(*answer));
  } else {
    refuse(where, "\"answer\" must be a string or a list of strings, it is " + describe_json(*answer));
  }
  if (task.answers.empty()) refuse(where, "\"answer\" is an empty list");
  for (const std::string& text : task.answers) {
    if (task.type == TaskType::numeric && !final_number(text)) refuse(where, "the answer '" + text + "' has no number");
  }
  task.solution = task.is_chat() ? task.answers.front() : continuation(task.prompt, task.answers.front());
}

OrderedJson read_messages(const Json& messages, const std::string& where) {
  if (!messages.is_array() || messages.empty()) refuse(where, "\"messages\" must be a list that is not empty");
  for (const Json& message : messages) {
    require<std::string>(message, "role", where);
    require<std::string>(message, "content", where);
  }
  return OrderedJson::parse(messages.dump());
}

Task own_format(const Json& line, const std::string& where) {
  Task task;
  task.type = line.contains("type")      ? parse_type(require<std::string>(line, "type", where), where)
              : line.contains("choices") ? TaskType::choice
                                         : TaskType::exact;
  task.kind = get_or<std::string>(line, "kind", "all", where);
  if (line.contains("messages")) {
    task.messages = read_messages(line.at("messages"), where);
  } else {
    task.prompt = require<std::string>(line, "prompt", where);
  }
  task.tolerance = get_or<double>(line, "tolerance", 0.0, where);
  if (!(task.tolerance >= 0)) refuse(where, "\"tolerance\" must not be negative");
  if (task.tolerance > 0 && task.type != TaskType::numeric) refuse(where, "\"tolerance\" is for type numeric alone");
  task.stop = get_or<std::vector<std::string>>(line, "stop", {}, where);
  read_answers(line, task, where);
  return task;
}

Task gsm8k(const Json& line, const std::string& where) {
  const auto solution = require<std::string>(line, "answer", where);
  const auto mark = solution.rfind("####");
  if (mark == std::string::npos || !final_number(solution.substr(mark))) {
    refuse(where, "\"answer\" has no number after \"####\", as GSM8K's have",
           "our own format has \"prompt\" in place of \"question\"");
  }
  Task task;
  task.type = TaskType::numeric;
  task.kind = "gsm8k";
  task.prompt = "Question: " + require<std::string>(line, "question", where) + "\nAnswer:";
  task.answers = {std::string(trim(std::string_view(solution).substr(mark + 4)))};
  task.solution = " " + solution;
  task.stop = {"Question:"};
  return task;
}

/// The prompt of the paper's authors, answered with a letter.
Task mmlu(std::string subject, const std::string& question, const std::vector<std::string>& choices,
          std::size_t right) {
  std::replace(subject.begin(), subject.end(), '_', ' ');
  Task task;
  task.type = TaskType::choice;
  task.kind = subject;
  task.header = "The following are multiple choice questions (with answers) about " + subject + ".\n\n";
  task.prompt = question;
  for (std::size_t i = 0; i < choices.size(); ++i) {
    const char letter = static_cast<char>('A' + i);
    task.prompt += std::string("\n") + letter + ". " + choices[i];
    task.choices.push_back(std::string(" ") + letter);
  }
  task.prompt += "\nAnswer:";
  task.right_choice = right;
  task.solution = task.choices[right];
  return task;
}

Task mmlu_json(const Json& line, const std::string& where) {
  const std::vector<std::string> choices = read_choices(line, where);
  if (choices.size() > 26) refuse(where, "more than 26 choices have no letters");
  return mmlu(require<std::string>(line, "subject", where), require<std::string>(line, "question", where), choices,
              right_choice(require<Json>(line, "answer", where), choices, where));
}

Task parse_line(std::string_view text, const std::string& where) {
  const Json line = parse_json(text, where);
  if (!line.is_object()) refuse(where, "a task is a JSON object, this is " + describe_json(line));
  Task task = line.contains("question") && line.contains("choices") && line.contains("subject") ? mmlu_json(line, where)
              : line.contains("question") && !line.contains("prompt")                           ? gsm8k(line, where)
                                                                      : own_format(line, where);
  task.id = get_or<std::string>(line, "id", "", where);
  return task;
}

bool full(const std::vector<Task>& tasks, std::int64_t limit) { return limit > 0 && std::ssize(tasks) >= limit; }

void read_lines(std::string_view text, const std::filesystem::path& path, std::int64_t limit,
                std::vector<Task>& tasks) {
  std::size_t number = 0;
  for (const std::string_view line : split(text, '\n')) {
    ++number;
    if (trim(line).empty()) continue;
    if (full(tasks, limit)) return;
    tasks.push_back(parse_line(line, path.string() + ", line " + std::to_string(number)));
    if (tasks.back().id.empty()) tasks.back().id = path.filename().string() + ":" + std::to_string(number);
  }
}

/// One record of RFC 4180 at a time: quoted fields may hold commas, line ends and doubled quotes.
class CsvReader {
 public:
  explicit CsvReader(std::string_view text) : text_(text) {}

  /// False at the end. `line()` is where the record began.
  bool next(std::vector<std::string>& fields) {
    fields.clear();
    if (at_ >= text_.size()) return false;
    line_ = next_line_;
    do fields.push_back(field());
    while (take(','));
    take('\r');
    if (take('\n')) ++next_line_;
    return true;
  }
  std::size_t line() const { return line_; }
  /// Whether the last record ended inside quotes, or had text behind a closing quote.
  bool damaged() const { return damaged_; }

 private:
  bool take(char c) {
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  std::string field() { return take('"') ? quoted() : plain(); }

  std::string plain() {
    const std::size_t end = std::min(text_.find_first_of(",\r\n", at_), text_.size());
    std::string value(text_.substr(at_, end - at_));
    at_ = end;
    return value;
  }

  std::string quoted() {
    std::string value;
    while (at_ < text_.size()) {
      if (take('"')) {
        if (!take('"')) {
          damaged_ = damaged_ || (at_ < text_.size() && text_.find_first_of(",\r\n", at_) != at_);
          return value;
        }
        value += '"';
        continue;
      }
      if (text_[at_] == '\n') ++next_line_;
      value += text_[at_++];
    }
    damaged_ = true;
    return value;
  }

  std::string_view text_;
  std::size_t at_ = 0, line_ = 1, next_line_ = 1;
  bool damaged_ = false;
};

/// abstract_algebra_test.csv -> abstract_algebra.
std::string subject_of(const std::filesystem::path& path) {
  std::string name = path.stem().string();
  for (const std::string_view part : {"_test", "_dev", "_val"}) {
    if (name.ends_with(part)) return name.substr(0, name.size() - part.size());
  }
  return name;
}

void read_mmlu_csv(const std::filesystem::path& path, std::int64_t limit, std::vector<Task>& tasks) {
  const std::string text = read_bytes(path);
  CsvReader reader(text);
  std::vector<std::string> fields;
  while (!full(tasks, limit) && reader.next(fields)) {
    if (fields.size() == 1 && trim(fields[0]).empty()) continue;
    const std::string where = path.string() + ", line " + std::to_string(reader.line());
    if (reader.damaged()) refuse(where, "a quoted field does not end where it should");
    if (fields.size() != 6) {
      refuse(where, "a row of MMLU has 6 fields (question, four choices, letter), this one has " +
                        std::to_string(fields.size()));
    }
    const std::vector<std::string> choices(fields.begin() + 1, fields.end() - 1);
    const std::string letter(trim(fields[5]));
    if (letter.size() != 1 || letter[0] < 'A' || letter[0] > 'D') {
      refuse(where, "the last field is '" + letter + "', it must be A, B, C or D");
    }
    tasks.push_back(mmlu(subject_of(path), fields[0], choices, static_cast<std::size_t>(letter[0] - 'A')));
    tasks.back().id = path.filename().string() + ":" + std::to_string(reader.line());
  }
}

void read_file(const std::filesystem::path& path, std::int64_t limit, std::vector<Task>& tasks) {
  path.extension() == ".csv" ? read_mmlu_csv(path, limit, tasks) : read_lines(read_bytes(path), path, limit, tasks);
}

std::vector<std::filesystem::path> files_in(const std::filesystem::path& directory) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    const auto extension = entry.path().extension();
    if (entry.is_regular_file() && (extension == ".csv" || extension == ".jsonl")) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  if (files.empty()) refuse(directory.string(), "there is no .csv or .jsonl file in it");
  return files;
}

}  // namespace

std::vector<Task> read_tasks(const std::filesystem::path& path, std::int64_t limit) {
  if (!std::filesystem::exists(path)) throw Error(ErrorCode::not_found, "no such file or directory: " + path.string());
  std::vector<Task> tasks;
  if (std::filesystem::is_directory(path)) {
    for (const auto& file : files_in(path)) read_file(file, limit, tasks);
  } else {
    read_file(path, limit, tasks);
  }
  if (tasks.empty()) refuse(path.string(), "it holds no task");
  return tasks;
}

std::vector<Task> tasks_from_lines(std::string_view text, const std::string& name) {
  std::vector<Task> tasks;
  read_lines(text, name, 0, tasks);
  if (tasks.empty()) refuse(name, "it holds no task");
  return tasks;
}

std::vector<Task> spread(std::vector<Task> tasks, std::int64_t limit) {
  const std::int64_t count = std::ssize(tasks);
  if (limit <= 0 || count <= limit) return tasks;
  std::vector<Task> chosen;
  for (std::int64_t i = 0; i < limit; ++i)
    chosen.push_back(std::move(tasks[static_cast<std::size_t>(i * count / limit)]));
  return chosen;
}

}  // namespace bittern::quant
