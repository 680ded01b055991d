// Blocks, their events and the end of a message.
#include "server/anthropic/messages_output.h"

#include "server/generation/ids.h"
#include "server/routes/json_reply.h"

namespace bittern::server {
namespace {

using Kind = AssistantPart::Kind;

OrderedJson message_head(const std::string& model, OrderedJson content) {
  return {{"id", random_id("msg_")},       {"type", "message"},      {"role", "assistant"},     {"model", model},
          {"content", std::move(content)}, {"stop_reason", nullptr}, {"stop_sequence", nullptr}};
}

OrderedJson input_of(const std::string& arguments) {
  OrderedJson value = OrderedJson::parse(arguments, nullptr, false);
  return value.is_object() ? value : OrderedJson::object();
}

OrderedJson delta_of(const AssistantPart& part, std::string_view text) {
  switch (part.kind) {
    case Kind::reasoning: return {{"type", "thinking_delta"}, {"thinking", text}};
    case Kind::call: return {{"type", "input_json_delta"}, {"partial_json", text}};
    case Kind::content: break;
  }
  return {{"type", "text_delta"}, {"text", text}};
}

class Writer final : public StreamWriter<ChatRun>, private PartSink {
 public:
  explicit Writer(std::string model) : model_(std::move(model)) {}

  void begin(const ChatRun& run, std::string& out) override {
    OrderedJson message = message_head(model_, OrderedJson::array());
    message["usage"] = message_usage(run);
    append_sse(out, "message_start", {{"type", "message_start"}, {"message", std::move(message)}});
    out += ping();
  }

  void event(const ChatRun& run, const ChatEvent& event, std::string& out) override {
    out_ = &out;
    parts_.add(event, *this);
    if (!event.finish.empty()) end_message(run, event);
  }

  std::string_view ping() const override { return "event: ping\ndata: {\"type\":\"ping\"}\n\n"; }

 private:
  void open(const AssistantPart& part) override {
    send("content_block_start", {{"index", part.index}, {"content_block", message_block(part)}});
  }
  void delta(const AssistantPart& part, std::string_view text) override {
    send("content_block_delta", {{"index", part.index}, {"delta", delta_of(part, text)}});
  }
  void close(const AssistantPart& part) override {
    // Nothing signs the reasoning, which is shown as it is, but clients wait for a signature.
    const OrderedJson signature = {{"type", "signature_delta"}, {"signature", ""}};
    if (part.kind == Kind::reasoning) send("content_block_delta", {{"index", part.index}, {"delta", signature}});
    send("content_block_stop", {{"index", part.index}});
  }
  void end_message(const ChatRun& run, const ChatEvent& event) {
    if (failed(event)) return send("error", {{"error", {{"type", "api_error"}, {"message", failure_text(event)}}}});
    const MessageEnd end = message_end(run, event);
    send("message_delta", {{"delta", {{"stop_reason", end.reason}, {"stop_sequence", end.stop_sequence}}},
                           {"usage", message_usage(run)}});
    send("message_stop", OrderedJson::object());
  }
  void send(const char* type, const OrderedJson& fields) {
    OrderedJson data = {{"type", type}};
    data.update(fields);
    append_sse(*out_, type, data);
  }

  const std::string model_;
  AssistantParts parts_;
  std::string* out_ = nullptr;  // of the event that is being written
};

}  // namespace

OrderedJson message_block(const AssistantPart& part) {
  switch (part.kind) {
    case Kind::reasoning: return {{"type", "thinking"}, {"thinking", part.text}, {"signature", ""}};
    case Kind::call:
      return {{"type", "tool_use"}, {"id", "toolu_" + part.id}, {"name", part.name}, {"input", input_of(part.text)}};
    case Kind::content: break;
  }
  return {{"type", "text"}, {"text", part.text}};
}

MessageEnd message_end(const ChatRun& run, const ChatEvent& event) {
  if (event.finish == "tool_calls") return {"tool_use", nullptr};
  if (event.finish == "length") {
    const bool full = run.usage().completion_tokens < run.settings().max_tokens.value_or(0);
    return {full ? "model_context_window_exceeded" : "max_tokens", nullptr};
  }
  if (!event.stop.empty()) return {"stop_sequence", event.stop};
  return {"end_turn", nullptr};
}

OrderedJson message_usage(const ChatRun& run) {
  const Usage usage = run.usage();
  return {{"input_tokens", usage.prompt_tokens - usage.cached_tokens},
          {"output_tokens", usage.completion_tokens},
          {"cache_creation_input_tokens", 0},
          {"cache_read_input_tokens", usage.cached_tokens}};
}

std::unique_ptr<StreamWriter<ChatRun>> make_message_writer(std::string model) {
  return std::make_unique<Writer>(std::move(model));
}

HttpReply whole_message(std::unique_ptr<ChatRun> run, std::string model) {
  struct State {
    AssistantParts parts;
    PartSink nobody;
    ChatEvent last;
  };
  const auto state = std::make_shared<State>();
  return whole_reply<ChatRun>(
      std::move(run),
      [state](const ChatEvent& event) {
        state->parts.add(event, state->nobody);
        state->last = event;
      },
      [state, model = std::move(model)](const ChatRun& ended) {
        if (failed(state->last)) throw Error(ErrorCode::internal, failure_text(state->last));
        OrderedJson blocks = OrderedJson::array();
        for (const AssistantPart& part : state->parts.parts()) blocks.push_back(message_block(part));
        OrderedJson message = message_head(model, std::move(blocks));
        const MessageEnd end = message_end(ended, state->last);
        message["stop_reason"] = end.reason;
        message["stop_sequence"] = end.stop_sequence;
        message["usage"] = message_usage(ended);
        return json_reply(message);
      });
}

}  // namespace bittern::server
