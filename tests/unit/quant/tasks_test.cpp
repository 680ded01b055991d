// Task files of every format, what makes a reply right, choices by likelihood, and few-shot examples.
#include "quant/tasks.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace bittern::quant {
namespace {

class TaskFiles : public ::testing::Test {
 protected:
  std::filesystem::path write(const std::string& name, const std::string& text) {
    const auto path = folder_.path() / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << text;
    return path;
  }
  std::vector<Task> read(const std::string& text, const std::string& name = "tasks.jsonl") {
    return read_tasks(write(name, text));
  }
  testing::TempDir folder_;
};

constexpr auto kInvalid = ErrorCode::invalid_argument;

TEST_F(TaskFiles, OursOfEveryType) {
  const auto tasks = read(R"({"id":"a","kind":"k","prompt":"2 + 2 =","answer":["4","four"]}
{"type":"numeric","prompt":"p","answer":12.5,"tolerance":0.1,"stop":["\n"]}

{"type":"choice","prompt":"The sky is","choices":["green","blue"],"answer":"blue"}
{"type":"json","messages":[{"role":"user","content":"Give JSON."}]}
{"type":"json","prompt":"p","answer":{"a":[1,2]}})");
  ASSERT_EQ(tasks.size(), 5u);
  EXPECT_EQ(tasks[0].id, "a");
  EXPECT_EQ(tasks[0].kind, "k");
  EXPECT_EQ(tasks[0].type, TaskType::exact);
  EXPECT_EQ(tasks[0].answers, (std::vector<std::string>{"4", "four"}));
  EXPECT_EQ(tasks[1].id, "tasks.jsonl:2");
  EXPECT_EQ(tasks[1].kind, "all");
  EXPECT_EQ(tasks[1].tolerance, 0.1);
  EXPECT_EQ(tasks[1].stop, std::vector<std::string>{"\n"});
  EXPECT_EQ(tasks[2].id, "tasks.jsonl:4");  // blank lines count
  EXPECT_EQ(tasks[2].choices, (std::vector<std::string>{" green", " blue"}));
  EXPECT_EQ(tasks[2].right_choice, 1u);
  EXPECT_EQ(tasks[2].expected(), "blue");
  EXPECT_TRUE(tasks[3].is_chat());
  EXPECT_TRUE(tasks[3].answers.empty());
  EXPECT_EQ(tasks[4].answers.front(), R"({"a":[1,2]})");
}

TEST_F(TaskFiles, Gsm8kAsItIsPublished) {
  const auto tasks =
      read(R"({"question": "Natalia sold clips.", "answer": "She sold 48/2 = <<48/2=24>>24.\n#### 1,072"})");
  ASSERT_EQ(tasks.size(), 1u);
  EXPECT_EQ(tasks[0].type, TaskType::numeric);
  EXPECT_EQ(tasks[0].kind, "gsm8k");
  EXPECT_EQ(tasks[0].prompt, "Question: Natalia sold clips.\nAnswer:");
  EXPECT_EQ(tasks[0].answers, std::vector<std::string>{"1,072"});
  EXPECT_EQ(tasks[0].stop, std::vector<std::string>{"Question:"});
  EXPECT_TRUE(is_right(tasks[0], " She sold 1072 clips."));
  EXPECT_FALSE(is_right(tasks[0], " She sold 72 clips."));
  EXPECT_TRUE(is_right(tasks[0], tasks[0].solution));
}

TEST_F(TaskFiles, MmluCsvAsItIsPublished) {
  const auto tasks = read("\"Find all c, such that \"\"x\"\" holds,\nfor Z_3.\",0,1,\"2, 3\",4,B\nNext?,a,b,c,d,D\r\n",
                          "abstract_algebra_test.csv");
  ASSERT_EQ(tasks.size(), 2u);
  EXPECT_EQ(tasks[0].kind, "abstract algebra");
  EXPECT_EQ(tasks[0].header, "The following are multiple choice questions (with answers) about abstract algebra.\n\n");
  EXPECT_EQ(tasks[0].prompt, "Find all c, such that \"x\" holds,\nfor Z_3.\nA. 0\nB. 1\nC. 2, 3\nD. 4\nAnswer:");
  EXPECT_EQ(tasks[0].choices, (std::vector<std::string>{" A", " B", " C", " D"}));
  EXPECT_EQ(tasks[0].right_choice, 1u);
  EXPECT_EQ(tasks[0].solution, " B");
  EXPECT_EQ(tasks[1].id, "abstract_algebra_test.csv:3");  // the first record has two lines
  EXPECT_EQ(tasks[1].right_choice, 3u);
}

TEST_F(TaskFiles, MmluJsonHasASubjectAndAnIndex) {
  const auto tasks = read(R"({"question":"Q?","subject":"world_religions","choices":["a","b","c"],"answer":2})");
  EXPECT_EQ(tasks[0].kind, "world religions");
  EXPECT_EQ(tasks[0].prompt, "Q?\nA. a\nB. b\nC. c\nAnswer:");
  EXPECT_EQ(tasks[0].right_choice, 2u);
}

TEST_F(TaskFiles, ADirectoryIsReadInTheOrderOfItsNames) {
  write("mmlu/b_test.csv", "q1,1,2,3,4,A\n");
  write("mmlu/a_test.csv", "q2,1,2,3,4,A\nq3,1,2,3,4,C\n");
  write("mmlu/readme.txt", "no task");
  const auto tasks = read_tasks(folder_.path() / "mmlu");
  ASSERT_EQ(tasks.size(), 3u);
  EXPECT_EQ(tasks[0].kind, "a");
  EXPECT_EQ(tasks[2].kind, "b");
  EXPECT_EQ(read_tasks(folder_.path() / "mmlu", 2).size(), 2u);
}

TEST_F(TaskFiles, WhatIsWrongIsNamedWithItsLine) {
  const std::string good = "{\"prompt\":\"x\",\"answer\":\"y\"}\n";
  EXPECT_ERROR(kInvalid, "line 2", read(good + "{\"prompt\": \n"));
  EXPECT_ERROR(kInvalid, "line 2: unknown task type 'numerc'", read(good + R"({"type":"numerc","prompt":"x"})"));
  EXPECT_ERROR(kInvalid, "did you mean 'numeric'", read(R"({"type":"numerc","prompt":"x","answer":"1"})"));
  EXPECT_ERROR(kInvalid, "line 3", read(good + "\n{\"prompt\":3,\"answer\":\"y\"}"));
  EXPECT_ERROR(kInvalid, "\"answer\" is missing", read(R"({"prompt":"x"})"));
  EXPECT_ERROR(kInvalid, "\"answer\" must be", read(R"({"prompt":"x","answer":3})"));
  EXPECT_ERROR(kInvalid, "empty list", read(R"({"prompt":"x","answer":[]})"));
  EXPECT_ERROR(kInvalid, "has no number", read(R"({"type":"numeric","prompt":"x","answer":"none"})"));
  EXPECT_ERROR(kInvalid, "none of the 2 choices", read(R"({"prompt":"x","choices":["a","b"],"answer":2})"));
  EXPECT_ERROR(kInvalid, "has 1 entries", read(R"({"prompt":"x","choices":["a"],"answer":0})"));
  EXPECT_ERROR(kInvalid, "a task is a JSON object", read("[1]"));
  EXPECT_ERROR(kInvalid, "GSM8K", read(R"({"question":"x","answer":"no mark"})"));
  EXPECT_ERROR(kInvalid, "\"messages\" must be a list", read(R"({"messages":"hi","answer":"y"})"));
  EXPECT_ERROR(kInvalid, "holds no task", read("\n\n"));
  EXPECT_ERROR(kInvalid, "line 1: a row of MMLU has 6 fields", read("a,b\n", "x_test.csv"));
  EXPECT_ERROR(kInvalid, "line 2: the last field is 'E'", read("q,1,2,3,4,A\nq,1,2,3,4,E\n", "x_test.csv"));
  EXPECT_ERROR(kInvalid, "quoted field", read("\"q,1,2,3,4,A\n", "x_test.csv"));
  EXPECT_ERROR(ErrorCode::not_found, "no such file", read_tasks(folder_.path() / "absent.jsonl"));
  std::filesystem::create_directories(folder_.path() / "empty");
  EXPECT_ERROR(kInvalid, "no .csv or .jsonl", read_tasks(folder_.path() / "empty"));
}

TEST(FinalNumber, IsTheOneAReplyEndsOn) {
  const auto number = [](const char* text) { return final_number(text).value_or(std::nan("")); };
  EXPECT_EQ(number("The answer is 42."), 42);
  EXPECT_EQ(number("3 plus 4 is 7 apples"), 7);
  EXPECT_EQ(number("First 5.\n#### 18 and 3 left"), 18);
  EXPECT_EQ(number("#### none, but 9"), 9);
  EXPECT_TRUE(std::isnan(number("#### nothing")));
  EXPECT_EQ(number("$1,234,567.50"), 1234567.5);
  EXPECT_EQ(number("1, 2, 3"), 3);
  EXPECT_EQ(number("12,34"), 34);  // no thousands
  EXPECT_EQ(number("it is -7"), -7);
  EXPECT_EQ(number("5-3"), 3);
  EXPECT_EQ(number("-$20"), -20);
  EXPECT_EQ(number("50%"), 50);
  EXPECT_TRUE(std::isnan(number("no digits")));
  EXPECT_TRUE(std::isnan(number("")));
  EXPECT_TRUE(std::isnan(number("- . -")));
}

TEST(IsRight, ByType) {
  Task task;
  task.answers = {"Paris", "in Paris"};
  EXPECT_TRUE(is_right(task, "  Paris\n"));
  EXPECT_TRUE(is_right(task, "in Paris"));
  EXPECT_FALSE(is_right(task, "paris"));
  task.type = TaskType::numeric;
  task.answers = {"3.14"};
  EXPECT_FALSE(is_right(task, "about 3.1"));
  task.tolerance = 0.05;
  EXPECT_TRUE(is_right(task, "about 3.1"));
  EXPECT_FALSE(is_right(task, "about three"));
  task.type = TaskType::json;
  task.answers.clear();
  EXPECT_TRUE(is_right(task, " {\"a\": 1} "));
  EXPECT_FALSE(is_right(task, "Here: {\"a\": 1}"));
  EXPECT_FALSE(is_right(task, "{\"a\": 1"));
  task.answers = {R"({"a":1,"b":[2]})"};
  EXPECT_TRUE(is_right(task, R"({ "b": [2], "a": 1 })"));
  EXPECT_FALSE(is_right(task, R"({"a":1,"b":[3]})"));
}

// Logits that favour the last token seen plus one; counts its runs.
class NextToken : public LogitSource {
 public:
  void run(std::span<const std::int32_t> tokens, const std::vector<bool>& want, const Sink& sink) override {
    ++runs;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      std::vector<float> logits(8, 0.0f);
      logits[static_cast<std::size_t>((tokens[i] + 1) % 8)] = std::log(3.0f);  // 3/10; the others 1/10
      if (want[i]) sink(static_cast<std::int64_t>(i), logits);
    }
  }
  std::int64_t vocab() const override { return 8; }
  std::int64_t max_context() const override { return 5; }
  int runs = 0;
};

TEST(ScoreChoices, SumsTheContinuationAndNormalisesByBytes) {
  NextToken source;
  // " 3 4" is likely token by token; " 5" is one unlikely token, so less improbable as a whole.
  const std::vector<ChoiceTokens> choices = {{{1, 2, 3, 4}, 2, 20}, {{1, 2, 5}, 2, 2}};
  const ChoiceResult result = score_choices(source, choices);
  EXPECT_NEAR(result.log_likelihoods[0], 2 * std::log(0.3), 1e-6);
  EXPECT_NEAR(result.log_likelihoods[1], std::log(0.1), 1e-6);
  EXPECT_EQ(result.best, 1u);
  EXPECT_EQ(result.best_normalized, 0u);
  EXPECT_EQ(source.runs, 2);
}

TEST(ScoreChoices, ChoicesOfOneTokenAreOneRun) {
  NextToken source;
  const std::vector<ChoiceTokens> choices = {{{1, 2, 5}, 2, 1}, {{1, 2, 3}, 2, 1}, {{1, 2, 7}, 2, 1}};
  const ChoiceResult result = score_choices(source, choices);
  EXPECT_EQ(source.runs, 1);
  EXPECT_EQ(result.best, 1u);
  EXPECT_NEAR(result.log_likelihoods[1], std::log(0.3), 1e-6);
  EXPECT_NEAR(result.log_likelihoods[2], std::log(0.1), 1e-6);
}

TEST(ScoreChoices, RefusesWhatCannotBeScored) {
  NextToken source;
  const std::vector<ChoiceTokens> nothing = {{{1, 2}, 2, 1}}, first = {{{1, 2}, 0, 1}},
                                  longer = {{{1, 2, 3, 4, 5, 6}, 2, 1}};
  EXPECT_ERROR(kInvalid, "no token to score", score_choices(source, nothing));
  EXPECT_ERROR(kInvalid, "no token to score", score_choices(source, first));
  EXPECT_ERROR(kInvalid, "takes 6 tokens, this model holds 5", score_choices(source, longer));
}

TEST(ContinuationBegin, IsWhereTheEncodingsPart) {
  const std::vector<std::int32_t> context = {1, 2, 3}, whole = {1, 2, 3, 9}, merged = {1, 2, 7, 9};
  EXPECT_EQ(continuation_begin(context, whole), 3u);
  EXPECT_EQ(continuation_begin(context, merged), 2u);  // the border token belongs to the continuation
}

Task plain(const std::string& kind, const std::string& prompt, const std::string& solution) {
  Task task;
  task.id = prompt, task.kind = kind, task.prompt = prompt, task.answers = {solution}, task.solution = " " + solution;
  return task;
}

TEST(AddExamples, TakesThoseOfTheKindInOrderAndNeverTheTaskItself) {
  const std::vector<Task> examples = {plain("a", "a1", "x"), plain("b", "b1", "y"), plain("a", "a2", "z"),
                                      plain("a", "a3", "w")};
  std::vector<Task> tasks = {plain("a", "a1", "x"), plain("a", "new", "n"), plain("c", "c1", "c")};
  add_examples(tasks, examples, 2);
  EXPECT_EQ(tasks[0].prompt, "a2 z\n\na3 w\n\na1");
  EXPECT_EQ(tasks[1].prompt, "a1 x\n\na2 z\n\nnew");
  EXPECT_EQ(tasks[2].prompt, "a1 x\n\nb1 y\n\nc1");  // no example of its kind
  EXPECT_ERROR(kInvalid, "--shots asks for 4 examples, there are 3", add_examples(tasks, examples, 4));
}

TEST(AddExamples, OfConversationsAreEarlierTurns) {
  std::vector<Task> examples = {plain("a", "one?", "1")}, tasks = {plain("a", "two?", "2")};
  make_chat(examples);
  EXPECT_ERROR(kInvalid, "only one of them is a conversation", add_examples(tasks, examples, 1));
  make_chat(tasks);
  add_examples(tasks, examples, 1);
  EXPECT_EQ(
      tasks[0].messages.dump(),
      R"([{"role":"user","content":"one?"},{"role":"assistant","content":"1"},{"role":"user","content":"two?"}])");
}

TEST(AddExamples, ASystemMessageStaysInFront) {
  Task task = plain("a", "two?", "2");
  task.messages = OrderedJson::parse(R"([{"role":"system","content":"s"},{"role":"user","content":"two?"}])");
  std::vector<Task> tasks = {task}, examples = {plain("a", "one?", "1")};
  make_chat(examples);
  add_examples(tasks, examples, 1);
  EXPECT_EQ(tasks[0].messages.size(), 4u);
  EXPECT_EQ(tasks[0].messages[0]["role"], "system");
  EXPECT_EQ(tasks[0].messages[3]["content"], "two?");
}

}  // namespace
}  // namespace bittern::quant
