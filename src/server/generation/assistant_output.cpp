// Reasoning is split off first; what is left goes through the tool parser.
#include "server/generation/assistant_output.h"

#include <algorithm>

namespace bittern::server {
namespace {

/// Joins what belongs together: parsers speak in bytes.
class DeltaSink final : public ToolSink {
 public:
  explicit DeltaSink(AssistantDelta& delta) : delta_(delta) {}
  void content(std::string_view text) override { delta_.content += text; }
  void call(ToolCallDelta call) override {
    if (call.name.empty() && !delta_.calls.empty() && delta_.calls.back().index == call.index) {
      delta_.calls.back().arguments += call.arguments;
    } else {
      delta_.calls.push_back(std::move(call));
    }
  }

 private:
  AssistantDelta& delta_;
};

}  // namespace

AssistantOutput::AssistantOutput(const ReasoningStyle* reasoning, bool reasoning_open,
                                 std::unique_ptr<ToolParser> tools)
    : tools_(std::move(tools)) {
  if (reasoning != nullptr) reasoning_.emplace(*reasoning, reasoning_open);
}

AssistantDelta AssistantOutput::push(std::string_view text) {
  AssistantDelta delta;
  if (reasoning_) {
    take(reasoning_->push(text), delta);
  } else {
    take_content(text, delta);
  }
  count(delta);
  return delta;
}

AssistantDelta AssistantOutput::finish() {
  AssistantDelta delta;
  if (reasoning_) take(reasoning_->finish(), delta);
  DeltaSink sink(delta);
  if (tools_) tools_->finish(sink);
  count(delta);
  return delta;
}

void AssistantOutput::take(ReasoningSplitter::Parts parts, AssistantDelta& delta) {
  delta.reasoning += parts.reasoning;
  take_content(parts.content, delta);
}

void AssistantOutput::take_content(std::string_view text, AssistantDelta& delta) {
  DeltaSink sink(delta);
  if (tools_) {
    tools_->push(text, sink);
  } else {
    sink.content(text);
  }
}

void AssistantOutput::count(const AssistantDelta& delta) {
  for (const ToolCallDelta& call : delta.calls) calls_ = std::max(calls_, call.index + 1);
}

void AssistantMessage::add(const AssistantDelta& delta) {
  reasoning += delta.reasoning;
  content += delta.content;
  for (const ToolCallDelta& call : delta.calls) {
    const auto index = static_cast<std::size_t>(call.index);
    if (index >= calls.size()) calls.resize(index + 1);
    calls[index].name += call.name;
    calls[index].arguments += call.arguments;
  }
}

}  // namespace bittern::server
