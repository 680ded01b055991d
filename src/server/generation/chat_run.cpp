// From a conversation to a prompt, and from text events to chat events.
#include "server/generation/chat_run.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/strings.h"
#include "server/generation/tool_prompt.h"

namespace bittern::server {
namespace {

bool forces_calls(const ToolChoice& choice) {
  return choice.kind == ToolChoice::Kind::required || choice.kind == ToolChoice::Kind::named;
}

/// Templates that do not know the role of developers know them as the system.
void rename_developers(OrderedJson& messages, const std::string& source) {
  if (source.find("developer") != std::string::npos) return;
  for (OrderedJson& message : messages) {
    if (message["role"] == "developer") message["role"] = "system";
  }
}

/// Cuts the prompt after the last message's text, so that the reply goes on there.
void cut_after_final_message(text::Prompt& prompt, const OrderedJson& messages, const std::string& param) {
  const std::string& last = messages.back()["content"].get_ref<const std::string&>();
  const std::size_t found = last.empty() ? std::string::npos : prompt.text.rfind(trim(last));
  if (found == std::string::npos) {
    refuse_field("continue_final_message",
                 fmt::format("the text of the last of {} is empty or not in the prompt", param));
  }
  prompt.text.resize(found + trim(last).size());
  std::erase_if(prompt.untrusted, [&](const text::ByteRange& r) { return r.begin >= prompt.text.size(); });
  for (text::ByteRange& range : prompt.untrusted) range.end = std::min(range.end, prompt.text.size());
}

text::Prompt render(const LoadedModel& model, const ChatInput& input) {
  const bool offers_tools = !input.tools.is_null() && input.tool_choice.kind != ToolChoice::Kind::none;
  text::ChatRequest request;
  request.messages = input.messages;
  request.add_generation_prompt = input.add_generation_prompt;
  request.extra = input.template_args;
  const std::string& source = model.chat_template().source(offers_tools);
  rename_developers(request.messages, source);
  if (knows_tools(source)) {
    if (offers_tools) request.tools = input.tools;
  } else {
    describe_tools_in_text(request.messages, offers_tools ? input.tools : OrderedJson());
  }
  text::Prompt prompt = model.chat_template().render(request);
  if (input.continue_final_message) cut_after_final_message(prompt, request.messages, input.param);
  return prompt;
}

/// Ids of those marks that are special tokens: text would come without them.
void show_marks(const LoadedModel& model, const std::vector<std::string_view>& marks, GenerationSettings& settings) {
  for (std::string_view mark : marks) {
    const auto id = model.tokenizer().id_of(mark);
    if (id && model.tokenizer().is_special(*id)) settings.shown_specials.push_back(*id);
  }
}

void choose_tool_style(const LoadedModel& model, const ServeOptions& options, PreparedChat& chat) {
  const std::string& source = model.chat_template().source(true);
  chat.tools = find_tool_style(options.tool_parser, source);
  if (chat.tools == nullptr && options.tool_parser == "auto") chat.tools = find_tool_style("hermes", source);
  if (chat.tools != nullptr) show_marks(model, chat.tools->marks, chat.settings);
}

void force_calls(const ChatInput& input, PreparedChat& chat) {
  OutputConstraint& constraint = chat.settings.constraint;
  if (constraint) refuse_field(constraint.param, constraint.param + " and a forced tool_choice exclude each other");
  constraint.kind = OutputConstraint::Kind::json_schema;
  constraint.schema = forced_tools_schema(input.tools, input.tool_choice, input.parallel_calls);
  constraint.param = "tools";
  chat.forced_calls = true;
}

void prepare_tools(const LoadedModel& model, const ServeOptions& options, const ChatInput& input, PreparedChat& chat) {
  if (input.tools.is_null() || input.tool_choice.kind == ToolChoice::Kind::none) return;
  chat.tool_list = tool_list(input.tools);
  if (forces_calls(input.tool_choice)) return force_calls(input, chat);
  // A reply that must be JSON, or one of some texts, is no call; other grammars may spell one.
  using Kind = OutputConstraint::Kind;
  const Kind kind = chat.settings.constraint.kind;
  if (kind == Kind::none || kind == Kind::regex || kind == Kind::grammar) choose_tool_style(model, options, chat);
}

// A constraint is for the answer: reasoning that the prompt has opened comes first, if its end is one token.
void prepare_reasoning(const LoadedModel& model, const ServeOptions& options, const std::string& prompt,
                       PreparedChat& chat) {
  const ReasoningStyle* style = find_reasoning_style(options.reasoning_parser, model.chat_template().source());
  if (style == nullptr) return;
  chat.reasoning_open = opens_reasoning(*style, prompt);
  if (chat.settings.constraint) {
    chat.settings.constrain_after = chat.reasoning_open ? model.tokenizer().id_of(style->close) : std::nullopt;
    if (!chat.settings.constrain_after) {
      chat.reasoning_open = false;
      return;
    }
  }
  chat.reasoning = style;
  show_marks(model, {style->open, style->close}, chat.settings);
}

std::vector<std::int32_t> encode(const LoadedModel& model, const ChatInput& input, const text::Prompt& prompt) {
  std::vector<std::int32_t> ids = model.tokenizer().encode(prompt);
  const auto bos = model.tokenizer().special_ids().bos;
  if (input.add_special_tokens && bos && (ids.empty() || ids.front() != *bos)) ids.insert(ids.begin(), *bos);
  return ids;
}

AssistantOutput make_output(const PreparedChat& chat) {
  std::unique_ptr<ToolParser> parser;
  if (chat.forced_calls) {
    parser = make_forced_tool_parser();
  } else if (chat.tools != nullptr) {
    parser = chat.tools->make(chat.tool_list);
  }
  return AssistantOutput(chat.reasoning, chat.reasoning_open, std::move(parser));
}

}  // namespace

PreparedChat prepare_chat(const LoadedModel& model, const ServeOptions& options, const ChatInput& input,
                          GenerationSettings settings) {
  PreparedChat chat;
  chat.settings = std::move(settings);
  text::Prompt prompt;
  try {
    prompt = render(model, input);
  } catch (const ApiError&) {
    throw;
  } catch (const Error& error) {  // of the template, which judges the messages, or because there is none
    throw ApiError(ErrorCode::invalid_argument, input.param, error.message(), error.hint());
  }
  prepare_tools(model, options, input, chat);
  prepare_reasoning(model, options, prompt.text, chat);
  chat.prompt = encode(model, input, prompt);
  return chat;
}

ChatRun::ChatRun(Service& service, std::string_view model_name, const ChatInput& input,
                 const GenerationSettings& settings)
    : model_(acquire_model(service.models, model_name)) {
  PreparedChat chat = prepare_chat(*model_, service.options, input, settings);
  settings_ = chat.settings;
  tool_style_ = chat.tools;
  for (int i = 0; i < settings_.n; ++i) outputs_.push_back(make_output(chat));
  Generation::Input request{{std::move(chat.prompt)}, input.param, std::string(model_name), true};
  generation_ = std::make_unique<Generation>(model_, service.metrics, std::move(request), settings_);
}

std::optional<ChatEvent> ChatRun::poll() {
  auto event = generation_->poll();
  if (!event) return std::nullopt;
  AssistantOutput& output = outputs_[static_cast<std::size_t>(event->sample)];
  const bool reasoning = output.reasoning();
  ChatEvent out{event->sample, output.push(event->text), std::move(event->token), "", std::move(event->stop)};
  if (out.token.token >= 0 && (reasoning || output.reasoning())) ++reasoning_tokens_;
  if (event->finish == FinishReason::none) return out;
  const AssistantDelta rest = output.finish();
  out.delta.reasoning += rest.reasoning;
  out.delta.content += rest.content;
  out.delta.calls.insert(out.delta.calls.end(), rest.calls.begin(), rest.calls.end());
  out.finish = event->finish == FinishReason::stop && output.called() ? "tool_calls" : finish_name(event->finish);
  generation_->named_end(out.choice, out.finish);
  return out;
}

Usage ChatRun::usage() const {
  Usage usage = generation_->usage();
  usage.reasoning_tokens = reasoning_tokens_;
  return usage;
}

}  // namespace bittern::server
