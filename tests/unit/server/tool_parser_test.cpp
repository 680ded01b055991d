// Tool-call parsers: what each style's text becomes, whole and cut anywhere.
#include "server/tools/tool_parser.h"

#include <gtest/gtest.h>

#include <random>

#include "base/json.h"
#include "base/strings.h"
#include "server/generation/assistant_output.h"

namespace bittern::server {
namespace {

Tools weather_tools() {
  OrderedJson schema = OrderedJson::parse(R"({"type": "object", "properties": {
    "city": {"type": "string"}, "days": {"type": "integer"}, "exact": {"type": "boolean"},
    "range": {"type": "object"}}})");
  return {{"get_weather", schema}, {"now", OrderedJson()}};
}

const ToolStyle& style(const std::string& name) { return *find_tool_style(name, ""); }

/// The message that `pieces` make.
AssistantMessage read(const std::string& name, const std::vector<std::string>& pieces) {
  AssistantOutput output(nullptr, false, style(name).make(weather_tools()));
  AssistantMessage message;
  for (const std::string& piece : pieces) message.add(output.push(piece));
  message.add(output.finish());
  return message;
}

std::string summary(const AssistantMessage& message) {
  std::string text = "[" + message.content + "]";
  for (const auto& call : message.calls) text += " " + call.name + call.arguments;
  return text;
}

struct Case {
  const char* style;
  const char* text;
  const char* expected;
};

void PrintTo(const Case& one, std::ostream* out) { *out << one.style << ": " << one.text; }

class ToolText : public ::testing::TestWithParam<Case> {};

TEST_P(ToolText, IsReadWhole) { EXPECT_EQ(summary(read(GetParam().style, {GetParam().text})), GetParam().expected); }

TEST_P(ToolText, IsReadAlikeByteByByte) {
  std::vector<std::string> pieces;
  for (const char* c = GetParam().text; *c != 0; ++c) pieces.emplace_back(1, *c);
  EXPECT_EQ(summary(read(GetParam().style, pieces)), GetParam().expected);
}

TEST_P(ToolText, IsReadAlikeHoweverItIsCut) {
  const std::string text = GetParam().text;
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    std::vector<std::string> pieces;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t size = 1 + random() % 9;
      pieces.push_back(text.substr(at, size));
      at += size;
    }
    ASSERT_EQ(summary(read(GetParam().style, pieces)), GetParam().expected) << join(pieces, "|");
  }
}

// No prefix of the text may show markup, whatever comes later.
TEST_P(ToolText, NeverShowsMarkup) {
  const std::string text = GetParam().text;
  for (std::size_t size = 0; size <= text.size(); ++size) {
    AssistantOutput output(nullptr, false, style(GetParam().style).make(weather_tools()));
    const std::string shown = output.push(text.substr(0, size)).content;
    for (std::string_view mark : style(GetParam().style).marks) {
      ASSERT_EQ(shown.find(mark), std::string::npos) << shown;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Hermes, ToolText,
    ::testing::Values(
        Case{"hermes", "just text", "[just text]"}, Case{"hermes", "a < b <tool", "[a < b <tool]"},
        Case{"hermes", "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}\n</tool_call>",
             "[] get_weather{\"city\": \"Paris\"}"},
        Case{"hermes",
             "Let me look.\n<tool_call>{\"name\": \"now\", \"arguments\": {}}</tool_call>\n"
             "<tool_call>{\"name\": \"get_weather\", \"arguments\": {\"city\": \"} </tool_call>\"}}</tool_call>\n",
             "[Let me look.] now{} get_weather{\"city\": \"} </tool_call>\"}"},
        Case{"hermes", "<tool_call>{\"arguments\": {\"city\": \"Rome\"}, \"name\": \"get_weather\"}</tool_call>",
             "[] get_weather{\"city\": \"Rome\"}"},
        Case{"hermes", "<tool_call>{\"name\": \"now\"}</tool_call> done", "[ done] now{}"},
        Case{"hermes", "<tool_call>{\"name\": \"now\", \"arguments\": \"{\\\"a\\\": 1}\"}</tool_call>",
             "[] now{\"a\": 1}"},
        Case{"hermes", "<tool_call>{\"name\": \"now\", \"arguments\": null}</tool_call>", "[] now{}"},
        // Cut off by the limit of tokens: the arguments stay as they are, a call without a name is text.
        Case{"hermes", "<tool_call>{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Par",
             "[] get_weather{\"city\": \"Par"},
        Case{"hermes", "<tool_call>{\"name\": \"get_w", "[{\"name\": \"get_w]"},
        Case{"hermes", "<tool_call>hello</tool_call>", "[hello]"},
        Case{"hermes", "<tool_call>{\"city\": 1}</tool_call>", "[{\"city\": 1}]"},
        Case{"hermes", "<tool_call>{\"name\": \"now\", \"arguments\": {\"s\": \"caf\xC3\xA9\"}}</tool_call>",
             "[] now{\"s\": \"caf\xC3\xA9\"}"}));

INSTANTIATE_TEST_SUITE_P(
    QwenCoder, ToolText,
    ::testing::Values(
        Case{"qwen3_coder",
             "<tool_call>\n<function=get_weather>\n<parameter=city>\nNew \"York\"\nCity\n</parameter>\n"
             "<parameter=days>\n3\n</parameter>\n<parameter=exact>\nTrue\n</parameter>\n</function>\n</tool_call>",
             "[] get_weather{\"city\": \"New \\\"York\\\"\\nCity\", \"days\": 3, \"exact\": true}"},
        Case{"qwen3_coder", "Hm.\n<tool_call>\n<function=now>\n</function>\n</tool_call>", "[Hm.] now{}"},
        Case{"qwen3_coder", "<function=get_weather><parameter=range>{\"a\": [1]}</parameter></function>",
             "[] get_weather{\"range\": {\"a\": [1]}}"},
        Case{"qwen3_coder", "<function=get_weather><parameter=days>soon</parameter></function>",
             "[] get_weather{\"days\": \"soon\"}"},
        Case{"qwen3_coder", "no < call", "[no < call]"}));

INSTANTIATE_TEST_SUITE_P(
    Llama, ToolText,
    ::testing::Values(
        Case{"llama3", "{\"name\": \"get_weather\", \"parameters\": {\"city\": \"Oslo\"}}",
             "[] get_weather{\"city\": \"Oslo\"}"},
        Case{"llama3", "<|python_tag|>{\"type\": \"function\", \"name\": \"now\", \"parameters\": {}}", "[] now{}"},
        Case{"llama3", "{\"name\": \"now\", \"parameters\": {}}; {\"name\": \"now\", \"parameters\": {\"a\": 1}}",
             "[] now{} now{\"a\": 1}"},
        Case{"llama3", "{\"name\": \"unknown\", \"parameters\": {}}", "[{\"name\": \"unknown\", \"parameters\": {}}]"},
        Case{"llama3", "{\"answer\": 42}", "[{\"answer\": 42}]"},
        Case{"llama3", "Use {\"name\": \"now\", \"parameters\": {}}",
             "[Use {\"name\": \"now\", \"parameters\": {}}]"}));

INSTANTIATE_TEST_SUITE_P(
    InternLm, ToolText,
    ::testing::Values(
        Case{"internlm",
             "Wait.\n<|action_start|><|plugin|>\n{\"name\": \"now\", \"parameters\": {\"a\": 1}}<|action_end|>\n",
             "[Wait.] now{\"a\": 1}"},
        Case{"internlm", "<|action_start|> <|plugin|>{\"name\": \"now\"}<|action_end|>", "[] now{}"},
        Case{"internlm", "<|action_start|><|interpreter|>\n{1: 2}<|action_end|>", "[\n{1: 2}]"}));

INSTANTIATE_TEST_SUITE_P(
    Mistral, ToolText,
    ::testing::Values(Case{"mistral",
                           "[TOOL_CALLS] [{\"name\": \"now\", \"arguments\": {}}, "
                           "{\"name\": \"get_weather\", \"arguments\": {\"city\": \"]\"}}]",
                           "[] now{} get_weather{\"city\": \"]\"}"},
                      Case{"mistral", "[TOOL_CALLS]get_weather[ARGS]{\"city\": \"Nice\"}[TOOL_CALLS]now{\"a\": {}}",
                           "[] get_weather{\"city\": \"Nice\"} now{\"a\": {}}"},
                      Case{"mistral", "[TOOL_CALLS]now[CALL_ID]abc123456[ARGS]{}", "[] now{}"},
                      Case{"mistral", "a [list]", "[a [list]]"}));

TEST(ToolStyles, AreFoundByNameAliasAndTemplate) {
  EXPECT_EQ(find_tool_style("qwen2d5", "")->name, "hermes");
  EXPECT_EQ(find_tool_style("auto", "... <tool_call> ...")->name, "hermes");
  EXPECT_EQ(find_tool_style("auto", "<tool_call>\n<function=x>")->name, "qwen3_coder");
  EXPECT_EQ(find_tool_style("auto", "<|action_start|><|plugin|>")->name, "internlm");
  EXPECT_EQ(find_tool_style("auto", "{{ message.content }}"), nullptr);
  EXPECT_EQ(find_tool_style("none", "<tool_call>"), nullptr);
  EXPECT_THROW(find_tool_style("hermess", ""), Error);
}

TEST(ForcedCalls, AreOneObjectOrAList) {
  const auto forced = [](const std::string& text) {
    AssistantOutput output(nullptr, false, make_forced_tool_parser());
    AssistantMessage message;
    for (char c : text) message.add(output.push(std::string(1, c)));
    message.add(output.finish());
    return summary(message);
  };
  EXPECT_EQ(forced(R"({"name": "now", "parameters": {"a": 1}})"), "[] now{\"a\": 1}");
  EXPECT_EQ(forced(R"([{"name": "a", "parameters": {}}, {"name": "b", "parameters": {}}])"), "[] a{} b{}");
  EXPECT_EQ(forced(R"([{"name": "a", "parameters": {"x": "tr)"), "[] a{\"x\": \"tr");
}

// Every delta of one push goes to one call, and only the first has the name.
TEST(ToolDeltas, NameComesOnceAndArgumentsInPieces) {
  AssistantOutput output(nullptr, false, style("hermes").make(weather_tools()));
  EXPECT_TRUE(output.push("<tool_call>{\"name\": \"get_weather\"").empty());
  const AssistantDelta first = output.push(", \"arguments\": {\"city\": ");
  ASSERT_EQ(first.calls.size(), 1u);
  EXPECT_EQ(first.calls[0], (ToolCallDelta{0, "get_weather", "{\"city\": "}));
  const AssistantDelta second = output.push("\"Paris\"}}</tool_call>");
  ASSERT_EQ(second.calls.size(), 1u);
  EXPECT_EQ(second.calls[0], (ToolCallDelta{0, "", "\"Paris\"}"}));
}

}  // namespace
}  // namespace bittern::server
