// Reasoning apart from the answer, whole and cut anywhere.
#include "server/generation/reasoning.h"

#include <gtest/gtest.h>

#include "server/generation/assistant_output.h"

namespace bittern::server {
namespace {

std::string split(const std::string& text, bool open, std::size_t step) {
  AssistantOutput output(find_reasoning_style("think", ""), open, nullptr);
  AssistantMessage message;
  for (std::size_t at = 0; at < text.size(); at += step) message.add(output.push(text.substr(at, step)));
  message.add(output.finish());
  return message.reasoning + "|" + message.content;
}

void expect_split(const std::string& text, bool open, const std::string& expected) {
  for (std::size_t step = 1; step <= text.size(); ++step) {
    ASSERT_EQ(split(text, open, step), expected) << text << " in pieces of " << step;
  }
}

TEST(Reasoning, IsSplitOff) {
  expect_split("<think>\nHm, so\n\nyes.\n</think>\n\nThe answer.", false, "Hm, so\n\nyes.|The answer.");
  expect_split("Hm.\n</think>\nYes <think> no", true, "Hm.|Yes <think> no");
  expect_split("No thoughts <think>at all", false, "|No thoughts <think>at all");
  expect_split("<think>cut off </thi", false, "cut off </thi|");
  expect_split("<thin", false, "|<thin");
  expect_split("<think>\n\n</think>\n\nOnly this", false, "|Only this");
  expect_split("\n plain", false, "|\n plain");
}

TEST(Reasoning, MayBeOpenedByThePrompt) {
  const ReasoningStyle& style = *find_reasoning_style("auto", "{{ '<think>\\n' }}");
  EXPECT_TRUE(opens_reasoning(style, "<|assistant|><think>\n"));
  EXPECT_FALSE(opens_reasoning(style, "<|assistant|><think>\n\n</think>\n\n"));
  EXPECT_EQ(find_reasoning_style("auto", "no marks"), nullptr);
  EXPECT_EQ(find_reasoning_style("deepseek-r1", "")->name, "think");
  EXPECT_THROW(find_reasoning_style("thinkk", ""), Error);
}

TEST(Reasoning, ComesBeforeCalls) {
  AssistantOutput output(find_reasoning_style("think", ""), true, find_tool_style("hermes", "")->make({}));
  AssistantMessage message;
  message.add(output.push("I need <tool_call> now.</think>\n<tool_call>{\"name\": \"now\"}</tool_call>"));
  message.add(output.finish());
  EXPECT_EQ(message.reasoning, "I need <tool_call> now.");
  EXPECT_EQ(message.content, "");
  ASSERT_EQ(message.calls.size(), 1u);
  EXPECT_EQ(message.calls[0].arguments, "{}");
}

}  // namespace
}  // namespace bittern::server
