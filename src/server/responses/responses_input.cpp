// Items become messages of the chat-completions form, which chat_input.h checks; a reasoning item and calls belong to
// the assistant's message that they stand beside.
#include "server/responses/responses_input.h"

#include <fmt/core.h>

namespace bittern::server {
namespace {

std::string at(const std::string& param, std::size_t index) { return fmt::format("{}[{}]", param, index); }

/// The items of one request, turned into messages one by one.
class Conversation {
 public:
  void add(const OrderedJson& item, const std::string& param) {
    Fields fields(item, param);
    const auto type = fields.get_or<std::string>("type", "message");
    if (type == "message") return add_message(item, param);
    if (type == "function_call") return add_call(fields);
    if (type == "function_call_output") return add_output(fields);
    if (type == "reasoning") return add_reasoning(fields);
    throw ApiError(ErrorCode::invalid_argument, fields.param("type"),
                   fmt::format("{} is '{}', which this server does not keep or run", fields.param("type"), type),
                   "send items of type message, function_call, function_call_output or reasoning",
                   "unsupported_content");
  }

  void add_message(const OrderedJson& message, const std::string& param) {
    OrderedJson normal = normalize_message(message, param);
    if (normal["role"] != "assistant") return add_other(std::move(normal));
    assistant()["content"] = joined(assistant()["content"].get<std::string>(), normal["content"].get<std::string>());
  }

  OrderedJson take() { return std::move(messages_); }

 private:
  static std::string joined(const std::string& text, const std::string& more) {
    return text.empty() || more.empty() ? text + more : text + "\n" + more;
  }

  /// The assistant's message that is being put together.
  OrderedJson& assistant() {
    if (!open_) messages_.push_back({{"role", "assistant"}, {"content", ""}});
    open_ = true;
    return messages_.back();
  }

  void add_other(OrderedJson message) {
    messages_.push_back(std::move(message));
    open_ = false;
  }

  void add_call(Fields& fields) {
    const auto text = fields.get_or<std::string>("arguments", "{}");
    OrderedJson arguments = OrderedJson::parse(text, nullptr, false);
    if (!arguments.is_object()) arguments = text;
    OrderedJson function = {{"name", fields.require<std::string>("name")}, {"arguments", std::move(arguments)}};
    OrderedJson call = {
        {"type", "function"}, {"id", fields.require<std::string>("call_id")}, {"function", std::move(function)}};
    assistant()["tool_calls"].push_back(std::move(call));
  }

  void add_output(Fields& fields) {
    OrderedJson message = {{"role", "tool"}, {"tool_call_id", fields.require<std::string>("call_id")}};
    const OrderedJson* output = fields.find("output");
    if (output == nullptr) refuse_field(fields.param("output"), fields.param("output") + " is missing");
    message["content"] = content_text(*output, fields.param("output"));
    add_other(std::move(message));
  }

  void add_reasoning(Fields& fields) {
    std::string text;
    for (const char* key : {"content", "summary"}) {
      const OrderedJson* parts = fields.find(key);
      if (parts == nullptr || !text.empty()) continue;
      if (!parts->is_array()) refuse_field(fields.param(key), fields.param(key) + " must be a list of parts");
      for (std::size_t i = 0; i < parts->size(); ++i) {
        Fields part((*parts)[i], at(fields.param(key), i));
        text = joined(text, part.require<std::string>("text"));
      }
    }
    if (!text.empty()) assistant()["reasoning_content"] = text;
  }

  OrderedJson messages_ = OrderedJson::array();
  bool open_ = false;  // the last message is the assistant's and may grow
};

OrderedJson read_input(Fields& fields) {
  Conversation conversation;
  if (const auto instructions = fields.get<std::string>("instructions")) {
    conversation.add_message({{"role", "system"}, {"content", *instructions}}, "instructions");
  }
  const OrderedJson input = fields.require<OrderedJson>("input");
  if (input.is_string()) {
    conversation.add_message({{"role", "user"}, {"content", input}}, "input");
    return conversation.take();
  }
  if (!input.is_array() || input.empty()) refuse_field("input", "input must be a text or a list of at least one item");
  for (std::size_t i = 0; i < input.size(); ++i) conversation.add(input[i], at("input", i));
  return conversation.take();
}

/// {"type": "function", "name", ...} -> {"type": "function", "function": {"name", ...}}
OrderedJson nested(const OrderedJson& flat, const std::string& param) {
  Fields fields(flat, param);
  const auto type = fields.require<std::string>("type");
  if (type != "function") {
    refuse_field(fields.param("type"), fmt::format("{} is '{}', but only functions that the client runs are supported",
                                                   fields.param("type"), type));
  }
  fields.require<std::string>("name");
  OrderedJson function = flat;
  function.erase("type");
  return {{"type", "function"}, {"function", std::move(function)}};
}

void read_response_tools(Fields& fields, ChatInput& chat) {
  OrderedJson converted = OrderedJson::object();
  if (const OrderedJson* tools = fields.find("tools")) {
    if (!tools->is_array()) refuse_field("tools", "tools must be a list");
    converted["tools"] = OrderedJson::array();
    for (std::size_t i = 0; i < tools->size(); ++i) converted["tools"].push_back(nested((*tools)[i], at("tools", i)));
  }
  if (const OrderedJson* choice = fields.find("tool_choice")) {
    converted["tool_choice"] = choice->is_object() ? nested(*choice, "tool_choice") : *choice;
  }
  Fields inner(converted);
  chat.tools = read_tools(inner);
  chat.tool_choice = read_tool_choice(inner, chat.tools);
  chat.parallel_calls = fields.get_or<bool>("parallel_tool_calls", true);
}

void read_text(Fields& fields, ResponsesRequest& request) {
  const OrderedJson* given = fields.find("text");
  if (given == nullptr) return;
  Fields text(*given, "text");
  if (const auto verbosity = text.get<std::string>("verbosity")) request.chat.template_args["verbosity"] = *verbosity;
  const OrderedJson* format = text.find("format");
  if (format == nullptr) return;
  Fields inner(*format, "text.format");
  const auto type = inner.choice("type", {"text", "json_object", "json_schema"});
  if (!type) inner.require<std::string>("type");
  OutputConstraint& constraint = request.settings.constraint;
  constraint.param = "text.format";
  if (*type == "json_object") constraint.kind = OutputConstraint::Kind::json_object;
  if (*type != "json_schema") return;
  constraint.kind = OutputConstraint::Kind::json_schema;
  constraint.schema = inner.require<OrderedJson>("schema");
}

/// Effort is the template's to follow; a summary is not made, the reasoning is shown as it is.
void read_reasoning(Fields& fields, ChatInput& chat) {
  const OrderedJson* given = fields.find("reasoning");
  if (given == nullptr) return;
  Fields reasoning(*given, "reasoning");
  reasoning.accept({"summary", "generate_summary"});
  const auto effort = reasoning.choice("effort", {"none", "minimal", "low", "medium", "high", "xhigh"});
  if (!effort) return;
  chat.template_args["enable_thinking"] = *effort != "none";
  if (*effort != "none") chat.template_args["reasoning_effort"] = *effort;
}

void read_include(Fields& fields) {
  for (const std::string& what : fields.strings("include")) {
    if (what == "reasoning.encrypted_content") continue;  // which is null: reasoning is not hidden
    refuse_field("include", fmt::format("include has '{}', which is not supported", what));
  }
}

void refuse_what_is_kept(Fields& fields) {
  const char* hint = "send the whole conversation as input";
  fields.refuse("previous_response_id", "this server stores no responses", hint);
  fields.refuse("conversation", "this server stores no conversations", hint);
  fields.refuse("prompt", "this server stores no prompts", hint);
  fields.refuse("background", "responses are made while the client waits");
  fields.refuse("top_logprobs", "log-probabilities are not part of a response", "use /v1/chat/completions");
  fields.accept({"max_tool_calls"});  // of tools that the server would run: there are none
  if (fields.get_or<std::string>("truncation", "disabled") != "disabled") {
    refuse_field("truncation", "truncation must be 'disabled': the input is taken whole or refused");
  }
}

OrderedJson value_or_null(Fields& fields, const char* key) {
  const OrderedJson* value = fields.find(key);
  return value == nullptr ? OrderedJson(nullptr) : *value;
}

OrderedJson echo_of(Fields& fields, const ResponsesRequest& request) {
  OrderedJson echo = {{"background", false}};
  for (const char* key : {"instructions", "max_output_tokens"}) echo[key] = value_or_null(fields, key);
  echo["metadata"] = fields.has("metadata") ? *fields.find("metadata") : OrderedJson::object();
  echo["model"] = request.model;
  echo["parallel_tool_calls"] = request.chat.parallel_calls;
  echo["previous_response_id"] = nullptr;
  echo["reasoning"] = fields.has("reasoning") ? *fields.find("reasoning") : OrderedJson::object();
  echo["service_tier"] = "default";
  echo["store"] = false;
  echo["temperature"] = request.settings.sampling.temperature;
  echo["text"] = fields.has("text") ? *fields.find("text") : OrderedJson{{"format", {{"type", "text"}}}};
  echo["tool_choice"] = fields.has("tool_choice") ? *fields.find("tool_choice") : OrderedJson("auto");
  echo["tools"] = fields.has("tools") ? *fields.find("tools") : OrderedJson::array();
  echo["top_p"] = request.settings.sampling.top_p;
  echo["truncation"] = "disabled";
  echo["user"] = value_or_null(fields, "user");
  return echo;
}

}  // namespace

ResponsesRequest read_responses_request(Fields& fields) {
  ResponsesRequest request;
  request.model = fields.get_or<std::string>("model", "");
  refuse_what_is_kept(fields);
  request.chat.param = "input";
  request.chat.messages = read_input(fields);
  read_response_tools(fields, request.chat);
  read_reasoning(fields, request.chat);
  request.settings = read_generation_settings(fields);
  if (request.settings.n != 1) fields.refuse("n", "a response has one output");
  if (fields.has("max_output_tokens")) {
    request.settings.max_tokens = fields.in_range("max_output_tokens", 1, 1, 1 << 30);
  }
  read_text(fields, request);
  read_include(fields);
  request.echo = echo_of(fields, request);
  return request;
}

}  // namespace bittern::server
