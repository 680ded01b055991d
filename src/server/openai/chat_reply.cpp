// The message of a chat, whole and in chunks.
#include "server/openai/chat_reply.h"

#include "server/http/error_reply.h"

namespace bittern::server {
namespace {

std::string finish_of(const std::string& finish, const ChatReplyOptions& options) {
  return finish == "tool_calls" && options.function_call ? "function_call" : finish;
}

OrderedJson logprobs_json(const TokenSpeller& speller, const std::vector<TokenEvent>& tokens) {
  OrderedJson content = OrderedJson::array();
  for (const TokenEvent& token : tokens) content.push_back(chat_logprob(speller, token));
  return {{"content", std::move(content)}, {"refusal", nullptr}};
}

OrderedJson ids_json(const std::vector<TokenEvent>& tokens) {
  OrderedJson ids = OrderedJson::array();
  for (const TokenEvent& token : tokens) ids.push_back(token.token);
  return ids;
}

void add_reasoning(OrderedJson& message, const std::string& reasoning) {
  if (reasoning.empty()) return;
  message["reasoning"] = reasoning;
  message["reasoning_content"] = reasoning;  // the name that older clients know
}

class ChatStream final : public StreamWriter<ChatRun> {
 public:
  ChatStream(const ChatRun& run, ChatReplyOptions options)
      : options_(std::move(options)),
        settings_(run.settings()),
        speller_(run.model().tokenizer(), settings_.tokens_as_ids),
        pending_(static_cast<std::size_t>(run.choices())) {}

  void begin(const ChatRun& run, std::string& out) override {
    for (int i = 0; i < run.choices(); ++i) {
      OrderedJson chunk = chunk_json(run, i, {{"role", "assistant"}, {"content", options_.echo}});
      if (settings_.return_token_ids && i == 0) chunk["prompt_token_ids"] = run.generation().prompt(0);
      append_sse(out, {}, chunk);
    }
  }

  void event(const ChatRun& run, const ChatEvent& event, std::string& out) override {
    if (event.finish == "error" || event.finish == "cancelled") {
      append_sse(out, {}, error_body(ErrorShape::openai, choice_failure(event.token, event.finish)));
      failed_ = true;
      return;
    }
    auto& pending = pending_[static_cast<std::size_t>(event.choice)];
    if (event.token.token >= 0) pending.push_back(event.token);
    if (!event.delta.reasoning.empty()) write(run, event.choice, reasoning_delta(event.delta), out);
    if (!event.delta.content.empty()) write(run, event.choice, {{"content", event.delta.content}}, out);
    for (const ToolCallDelta& call : event.delta.calls) write(run, event.choice, call_delta(call), out);
    if (!event.finish.empty()) write_end(run, event, out);
  }

  void end(const ChatRun& run, std::string& out) override {
    if (settings_.stream.include_usage) {
      OrderedJson chunk = to_json(options_.head);
      chunk["choices"] = OrderedJson::array();
      chunk["usage"] = to_json(run.usage());
      append_sse(out, {}, chunk);
    }
    out += "data: [DONE]\n\n";
  }

  bool stopped() const override { return failed_; }

 private:
  OrderedJson chunk_json(const ChatRun& run, int index, OrderedJson delta) const {
    OrderedJson chunk = to_json(options_.head);
    chunk["choices"] = OrderedJson::array(
        {{{"index", index}, {"delta", std::move(delta)}, {"logprobs", nullptr}, {"finish_reason", nullptr}}});
    if (settings_.stream.continuous_usage) {
      chunk["usage"] = to_json(run.usage());
    } else if (settings_.stream.include_usage) {
      chunk["usage"] = nullptr;
    }
    return chunk;
  }

  // The tokens since the last chunk of the choice go with this one.
  OrderedJson chunk_with_tokens(const ChatRun& run, int index, OrderedJson delta) {
    OrderedJson chunk = chunk_json(run, index, std::move(delta));
    auto& pending = pending_[static_cast<std::size_t>(index)];
    OrderedJson& choice = chunk["choices"][0];
    if (options_.logprobs && !pending.empty()) choice["logprobs"] = logprobs_json(speller_, pending);
    if (settings_.return_token_ids) choice["token_ids"] = ids_json(pending);
    pending.clear();
    return chunk;
  }

  void write(const ChatRun& run, int index, OrderedJson delta, std::string& out) {
    append_sse(out, {}, chunk_with_tokens(run, index, std::move(delta)));
  }

  void write_end(const ChatRun& run, const ChatEvent& event, std::string& out) {
    OrderedJson chunk = chunk_with_tokens(run, event.choice, OrderedJson::object());
    OrderedJson& choice = chunk["choices"][0];
    choice["finish_reason"] = finish_of(event.finish, options_);
    choice["stop_reason"] = stop_reason(event.stop, event.token, settings_);
    append_sse(out, {}, chunk);
  }

  static OrderedJson reasoning_delta(const AssistantDelta& delta) {
    OrderedJson json;
    add_reasoning(json, delta.reasoning);
    return json;
  }

  OrderedJson call_delta(const ToolCallDelta& call) const {
    OrderedJson function = {{"arguments", call.arguments}};
    if (!call.name.empty()) function = {{"name", call.name}, {"arguments", call.arguments}};
    if (options_.function_call) return {{"function_call", std::move(function)}};
    OrderedJson json = {{"index", call.index}};
    if (!call.name.empty()) {
      json["id"] = random_id(options_.call_id_length == 9 ? "" : "call_", options_.call_id_length);
      json["type"] = "function";
    }
    json["function"] = std::move(function);
    return {{"tool_calls", OrderedJson::array({std::move(json)})}};
  }

  ChatReplyOptions options_;
  GenerationSettings settings_;
  TokenSpeller speller_;
  std::vector<std::vector<TokenEvent>> pending_;  // of each choice: tokens that no chunk has told of yet
  bool failed_ = false;
};

}  // namespace

ChatReply::ChatReply(const ChatRun& run, ChatReplyOptions options)
    : options_(std::move(options)),
      settings_(run.settings()),
      speller_(run.model().tokenizer(), settings_.tokens_as_ids),
      choices_(static_cast<std::size_t>(run.choices())) {}

void ChatReply::collect(const ChatEvent& event) {
  Choice& choice = choices_[static_cast<std::size_t>(event.choice)];
  choice.message.add(event.delta);
  const bool keeps_tokens = options_.logprobs || settings_.return_token_ids;
  if (event.token.token >= 0 && keeps_tokens) choice.tokens.push_back(event.token);
  if (event.finish.empty()) return;
  if (event.finish == "error" || event.finish == "cancelled") throw choice_failure(event.token, event.finish);
  choice.finish = event.finish;
  choice.stop = event.stop;
  choice.end = event.token;
}

OrderedJson ChatReply::message_json(const Choice& choice) const {
  const AssistantMessage& message = choice.message;
  const std::string content = options_.echo + message.content;
  OrderedJson json = {{"role", "assistant"}};
  json["content"] = content.empty() && !message.calls.empty() ? OrderedJson(nullptr) : OrderedJson(content);
  json["refusal"] = nullptr;
  add_reasoning(json, message.reasoning);
  if (options_.function_call && !message.calls.empty()) {
    json["function_call"] = {{"name", message.calls[0].name}, {"arguments", message.calls[0].arguments}};
    return json;
  }
  for (const AssistantMessage::Call& call : message.calls) {
    json["tool_calls"].push_back(
        {{"id", random_id(options_.call_id_length == 9 ? "" : "call_", options_.call_id_length)},
         {"type", "function"},
         {"function", {{"name", call.name}, {"arguments", call.arguments}}}});
  }
  return json;
}

OrderedJson ChatReply::choice_json(const Choice& choice, int index) const {
  OrderedJson json = {{"index", index}, {"message", message_json(choice)}};
  json["logprobs"] = options_.logprobs ? logprobs_json(speller_, choice.tokens) : OrderedJson(nullptr);
  json["finish_reason"] = finish_of(choice.finish, options_);
  json["stop_reason"] = stop_reason(choice.stop, choice.end, settings_);
  if (settings_.return_token_ids) json["token_ids"] = ids_json(choice.tokens);
  return json;
}

OrderedJson ChatReply::finish(const ChatRun& run) {
  OrderedJson reply = to_json(options_.head);
  reply["choices"] = OrderedJson::array();
  for (std::size_t i = 0; i < choices_.size(); ++i)
    reply["choices"].push_back(choice_json(choices_[i], static_cast<int>(i)));
  reply["usage"] = to_json(run.usage());
  if (settings_.return_token_ids) reply["prompt_token_ids"] = run.generation().prompt(0);
  if (settings_.sampling.prompt_logprobs >= 0) {
    reply["prompt_logprobs"] = prompt_logprobs_json(speller_, run.generation().prompt_logprobs(0));
  }
  return reply;
}

std::unique_ptr<StreamWriter<ChatRun>> make_chat_stream(const ChatRun& run, ChatReplyOptions options) {
  return std::make_unique<ChatStream>(run, std::move(options));
}

}  // namespace bittern::server
