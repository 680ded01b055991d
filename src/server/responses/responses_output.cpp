// Items, their events and the response object. An item of text holds one part of content.
#include "server/responses/responses_output.h"

#include <chrono>

#include "server/generation/ids.h"
#include "server/routes/json_reply.h"

namespace bittern::server {
namespace {

using Kind = AssistantPart::Kind;

OrderedJson content_part(const AssistantPart& part) {
  if (part.kind == Kind::reasoning) return {{"type", "reasoning_text"}, {"text", part.text}};
  return {{"type", "output_text"},
          {"text", part.text},
          {"annotations", OrderedJson::array()},
          {"logprobs", OrderedJson::array()}};
}

OrderedJson usage_of(const ChatRun& run) {
  const Usage usage = run.usage();
  return {{"input_tokens", usage.prompt_tokens},
          {"input_tokens_details", {{"cached_tokens", usage.cached_tokens}}},
          {"output_tokens", usage.completion_tokens},
          {"output_tokens_details", {{"reasoning_tokens", usage.reasoning_tokens}}},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens}};
}

/// The response, from its creation to its end.
class Response {
 public:
  explicit Response(OrderedJson echo) : echo_(std::move(echo)) {}

  OrderedJson running() const { return object("in_progress", OrderedJson::array()); }

  /// After `last`, the event that ended the choice.
  OrderedJson ended(const ChatRun& run, const ChatEvent& last, const AssistantParts& parts) const {
    OrderedJson output = OrderedJson::array();
    for (const AssistantPart& part : parts.parts()) output.push_back(response_item(part, true));
    OrderedJson response = object(status(last), std::move(output));
    if (last.finish == "length") {
      if (!response["output"].empty()) response["output"].back()["status"] = "incomplete";
      response["incomplete_details"] = {{"reason", "max_output_tokens"}};
    }
    if (failed(last)) response["error"] = {{"code", "server_error"}, {"message", failure_text(last)}};
    response["usage"] = usage_of(run);
    return response;
  }

  static const char* status(const ChatEvent& last) {
    if (failed(last)) return "failed";
    return last.finish == "length" ? "incomplete" : "completed";
  }

 private:
  OrderedJson object(const char* state, OrderedJson output) const {
    OrderedJson response = {{"id", id_}, {"object", "response"}, {"created_at", created_}, {"status", state}};
    response["error"] = nullptr;
    response["incomplete_details"] = nullptr;
    response["output"] = std::move(output);
    response.update(echo_);
    response["usage"] = nullptr;
    return response;
  }

  const OrderedJson echo_;
  const std::string id_ = random_id("resp_");
  const std::int64_t created_ =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
};

class Writer final : public StreamWriter<ChatRun>, private PartSink {
 public:
  explicit Writer(OrderedJson echo) : response_(std::move(echo)) {}

  void begin(const ChatRun&, std::string& out) override {
    out_ = &out;
    send("response.created", {{"response", response_.running()}});
    send("response.in_progress", {{"response", response_.running()}});
  }

  void event(const ChatRun& run, const ChatEvent& event, std::string& out) override {
    out_ = &out;
    parts_.add(event, *this);
    if (event.finish.empty()) return;
    send(std::string("response.") + Response::status(event), {{"response", response_.ended(run, event, parts_)}});
  }

 private:
  void open(const AssistantPart& part) override {
    send("response.output_item.added", {{"output_index", part.index}, {"item", response_item(part, false)}});
    if (part.kind != Kind::call) send_at("response.content_part.added", part, {{"part", content_part(part)}});
  }

  void delta(const AssistantPart& part, std::string_view text) override {
    switch (part.kind) {
      case Kind::reasoning: return send_at("response.reasoning_text.delta", part, {{"delta", text}});
      case Kind::call: return send_at("response.function_call_arguments.delta", part, {{"delta", text}});
      case Kind::content: break;
    }
    send_at("response.output_text.delta", part, {{"delta", text}, {"logprobs", OrderedJson::array()}});
  }

  void close(const AssistantPart& part) override {
    switch (part.kind) {
      case Kind::reasoning: send_at("response.reasoning_text.done", part, {{"text", part.text}}); break;
      case Kind::call:
        send_at("response.function_call_arguments.done", part, {{"name", part.name}, {"arguments", part.text}});
        break;
      case Kind::content:
        send_at("response.output_text.done", part, {{"text", part.text}, {"logprobs", OrderedJson::array()}});
    }
    if (part.kind != Kind::call) send_at("response.content_part.done", part, {{"part", content_part(part)}});
    send("response.output_item.done", {{"output_index", part.index}, {"item", response_item(part, true)}});
  }

  /// With the place of the part in the response.
  void send_at(const std::string& type, const AssistantPart& part, const OrderedJson& fields) {
    OrderedJson data = {{"item_id", response_item(part, false)["id"]}, {"output_index", part.index}};
    if (part.kind != Kind::call) data["content_index"] = 0;
    data.update(fields);
    send(type, data);
  }

  void send(const std::string& type, const OrderedJson& fields) {
    OrderedJson data = {{"type", type}, {"sequence_number", sent_++}};
    data.update(fields);
    append_sse(*out_, type, data);
  }

  const Response response_;
  AssistantParts parts_;
  int sent_ = 0;
  std::string* out_ = nullptr;  // of the event that is being written
};

}  // namespace

OrderedJson response_item(const AssistantPart& part, bool done) {
  const char* status = done ? "completed" : "in_progress";
  OrderedJson content = done ? OrderedJson::array({content_part(part)}) : OrderedJson::array();
  switch (part.kind) {
    case Kind::reasoning:
      return {{"id", "rs_" + part.id}, {"type", "reasoning"},          {"summary", OrderedJson::array()},
              {"content", content},    {"encrypted_content", nullptr}, {"status", status}};
    case Kind::call:
      return {{"id", "fc_" + part.id}, {"type", "function_call"}, {"call_id", "call_" + part.id},
              {"name", part.name},     {"arguments", part.text},  {"status", status}};
    case Kind::content: break;
  }
  return {
      {"id", "msg_" + part.id}, {"type", "message"}, {"role", "assistant"}, {"content", content}, {"status", status}};
}

std::unique_ptr<StreamWriter<ChatRun>> make_response_writer(OrderedJson echo) {
  return std::make_unique<Writer>(std::move(echo));
}

HttpReply whole_response(std::unique_ptr<ChatRun> run, OrderedJson echo) {
  struct State {
    explicit State(OrderedJson fields) : response(std::move(fields)) {}
    Response response;
    AssistantParts parts;
    PartSink nobody;
    ChatEvent last;
  };
  const auto state = std::make_shared<State>(std::move(echo));
  return whole_reply<ChatRun>(
      std::move(run),
      [state](const ChatEvent& event) {
        state->parts.add(event, state->nobody);
        state->last = event;
      },
      [state](const ChatRun& ended) {
        if (failed(state->last)) throw Error(ErrorCode::internal, failure_text(state->last));
        return json_reply(state->response.ended(ended, state->last, state->parts));
      });
}

}  // namespace bittern::server
