// One open part at a time.
#include "server/generation/assistant_parts.h"

#include "server/generation/ids.h"

namespace bittern::server {

void AssistantParts::add(const ChatEvent& event, PartSink& sink) {
  append(AssistantPart::Kind::reasoning, event.delta.reasoning, sink);
  append(AssistantPart::Kind::content, event.delta.content, sink);
  for (const ToolCallDelta& call : event.delta.calls) append_call(call, sink);
  if (!event.finish.empty()) close(sink);
}

void AssistantParts::append(AssistantPart::Kind kind, std::string_view text, PartSink& sink) {
  if (text.empty()) return;
  if (!is_open(kind)) begin(kind, {}, sink);
  parts_.back().text += text;
  sink.delta(parts_.back(), text);
}

void AssistantParts::append_call(const ToolCallDelta& call, PartSink& sink) {
  if (!is_open(AssistantPart::Kind::call) || call.index != call_) begin(AssistantPart::Kind::call, call.name, sink);
  call_ = call.index;
  append(AssistantPart::Kind::call, call.arguments, sink);
}

void AssistantParts::begin(AssistantPart::Kind kind, std::string name, PartSink& sink) {
  close(sink);
  parts_.push_back({kind, static_cast<int>(parts_.size()), random_id(""), std::move(name), ""});
  open_ = true;
  sink.open(parts_.back());
}

void AssistantParts::close(PartSink& sink) {
  if (std::exchange(open_, false)) sink.close(parts_.back());
}

std::string failure_text(const ChatEvent& event) {
  return event.token.error.empty() ? "the request was stopped by the server" : event.token.error;
}

}  // namespace bittern::server
