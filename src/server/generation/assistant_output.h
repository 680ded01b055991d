// AssistantOutput: one choice's text taken apart while it comes: reasoning, content, tool calls.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/generation/reasoning.h"
#include "server/tools/tool_parser.h"

namespace bittern::server {

/// What became known with one piece of text.
struct AssistantDelta {
  std::string reasoning, content;
  std::vector<ToolCallDelta> calls;
  bool empty() const { return reasoning.empty() && content.empty() && calls.empty(); }
};

class AssistantOutput {
 public:
  /// Without a style nothing is split off; without a parser all is content.
  AssistantOutput(const ReasoningStyle* reasoning, bool reasoning_open, std::unique_ptr<ToolParser> tools);

  AssistantDelta push(std::string_view text);
  AssistantDelta finish();
  bool called() const { return calls_ > 0; }
  /// Whether the next text belongs to reasoning.
  bool reasoning() const { return reasoning_ && reasoning_->inside(); }

 private:
  void take(ReasoningSplitter::Parts parts, AssistantDelta& delta);
  void take_content(std::string_view text, AssistantDelta& delta);
  void count(const AssistantDelta& delta);

  std::optional<ReasoningSplitter> reasoning_;
  std::unique_ptr<ToolParser> tools_;
  int calls_ = 0;
};

/// A whole message, put together from its deltas.
struct AssistantMessage {
  struct Call {
    std::string name, arguments;
  };
  std::string reasoning, content;
  std::vector<Call> calls;
  void add(const AssistantDelta& delta);
};

}  // namespace bittern::server
