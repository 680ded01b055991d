// ChatRun: one chat request under way: the conversation rendered to a prompt, its choices generated and taken apart
// into reasoning, content and tool calls. /v1/chat/completions, /v1/messages and /v1/responses only dress it up.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "server/generation/assistant_output.h"
#include "server/generation/chat_input.h"
#include "server/generation/generation.h"
#include "server/serve_options.h"
#include "server/service.h"

namespace bittern::server {

/// A chat's prompt, and how its output is to be read.
struct PreparedChat {
  std::vector<std::int32_t> prompt;
  GenerationSettings settings;
  const ReasoningStyle* reasoning = nullptr;
  bool reasoning_open = false;
  const ToolStyle* tools = nullptr;  // null: no calls are looked for, unless they are forced
  bool forced_calls = false;
  Tools tool_list;
};

/// ApiError as the template or the grammar gives it.
PreparedChat prepare_chat(const LoadedModel& model, const ServeOptions& options, const ChatInput& input,
                          GenerationSettings settings);

/// What happened to one choice.
struct ChatEvent {
  int choice = 0;
  AssistantDelta delta;
  TokenEvent token;    // token.token < 0: no token came
  std::string finish;  // "stop", "length", "tool_calls", "cancelled", "error"; empty: it goes on
  std::string stop;    // the stop text that ended it, if one did
};

class ChatRun {
 public:
  /// Throws as prepare_chat and Generation do.
  ChatRun(Service& service, std::string_view model_name, const ChatInput& input, const GenerationSettings& settings);

  void start(std::function<void()> wake) { generation_->start(std::move(wake)); }
  /// As Generation::poll.
  std::optional<ChatEvent> poll();
  bool finished() const { return generation_->finished(); }
  int choices() const { return generation_->choices(); }
  Usage usage() const;
  const Generation& generation() const { return *generation_; }
  const LoadedModel& model() const { return *model_; }
  const GenerationSettings& settings() const { return settings_; }
  /// The style in which calls are looked for, or null.
  const ToolStyle* tool_style() const { return tool_style_; }

 private:
  std::shared_ptr<LoadedModel> model_;
  GenerationSettings settings_;
  const ToolStyle* tool_style_ = nullptr;
  std::vector<AssistantOutput> outputs_;  // of each choice
  std::unique_ptr<Generation> generation_;
  std::int64_t reasoning_tokens_ = 0;
};

/// The schema that calls are forced by: an object {"name", "parameters"} for one of the tools, in a list where several
/// may be called at once.
OrderedJson forced_tools_schema(const OrderedJson& tools, const ToolChoice& choice, bool parallel);

}  // namespace bittern::server
