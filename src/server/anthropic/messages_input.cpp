// Blocks become messages: text stays in its message, tool_use becomes a call of the assistant's, and each tool_result a
// message of its own before the user's text, as chat templates expect them.
#include "server/anthropic/messages_input.h"

#include <fmt/core.h>

namespace bittern::server {
namespace {

std::string at(const std::string& param, std::size_t index) { return fmt::format("{}[{}]", param, index); }

[[noreturn]] void refuse_block(const Fields& fields, const std::string& type) {
  throw ApiError(ErrorCode::invalid_argument, fields.param("type"),
                 fmt::format("{} is '{}', but this model reads text alone", fields.param("type"), type),
                 "send blocks of type text, tool_use and tool_result", "unsupported_content");
}

/// Calls `each` with every block of a content that is a list, or with one text block for a string.
template <class Each>
void for_each_block(const OrderedJson& content, const std::string& param, const Each& each) {
  if (content.is_string()) {
    const OrderedJson block = {{"type", "text"}, {"text", content}};
    Fields fields(block, param);
    return each(fields, "text");
  }
  if (!content.is_array()) refuse_field(param, param + " must be a text or a list of blocks");
  for (std::size_t i = 0; i < content.size(); ++i) {
    Fields fields(content[i], at(param, i));
    each(fields, fields.require<std::string>("type"));
  }
}

void append_text(std::string& text, const std::string& more) {
  if (!text.empty() && !more.empty()) text += '\n';
  text += more;
}

/// The text of blocks that may hold nothing else.
std::string text_of(const OrderedJson& content, const std::string& param) {
  std::string text;
  for_each_block(content, param, [&](Fields& fields, const std::string& type) {
    if (type != "text") refuse_block(fields, type);
    append_text(text, fields.require<std::string>("text"));
  });
  return text;
}

OrderedJson tool_message(Fields& fields) {
  OrderedJson message = {{"role", "tool"}, {"tool_call_id", fields.require<std::string>("tool_use_id")}};
  const OrderedJson* content = fields.find("content");
  std::string text = content == nullptr ? "" : text_of(*content, fields.param("content"));
  if (fields.get_or<bool>("is_error", false)) text = "Error: " + text;
  message["content"] = std::move(text);
  return message;
}

void add_user(const OrderedJson& content, const std::string& param, OrderedJson& messages) {
  std::string text;
  bool results = false;
  for_each_block(content, param, [&](Fields& fields, const std::string& type) {
    if (type == "tool_result") {
      messages.push_back(tool_message(fields));
      results = true;
    } else if (type == "text") {
      append_text(text, fields.require<std::string>("text"));
    } else {
      refuse_block(fields, type);
    }
  });
  if (!text.empty() || !results) messages.push_back({{"role", "user"}, {"content", text}});
}

OrderedJson call_of(Fields& fields) {
  const OrderedJson* input = fields.find("input");
  if (input != nullptr && !input->is_object())
    refuse_field(fields.param("input"), fields.param("input") + " must be an object");
  OrderedJson function = {{"name", fields.require<std::string>("name")},
                          {"arguments", input == nullptr ? OrderedJson::object() : *input}};
  return {{"type", "function"}, {"id", fields.require<std::string>("id")}, {"function", std::move(function)}};
}

void add_assistant(const OrderedJson& content, const std::string& param, OrderedJson& messages) {
  std::string text, reasoning;
  OrderedJson calls = OrderedJson::array();
  for_each_block(content, param, [&](Fields& fields, const std::string& type) {
    if (type == "text") {
      append_text(text, fields.require<std::string>("text"));
    } else if (type == "tool_use") {
      calls.push_back(call_of(fields));
    } else if (type == "thinking") {
      append_text(reasoning, fields.require<std::string>("thinking"));
    } else if (type != "redacted_thinking") {  // another server's secret: nothing of it can be shown to this model
      refuse_block(fields, type);
    }
  });
  OrderedJson message = {{"role", "assistant"}, {"content", text}};
  if (!calls.empty()) message["tool_calls"] = std::move(calls);
  if (!reasoning.empty()) message["reasoning_content"] = std::move(reasoning);
  messages.push_back(std::move(message));
}

OrderedJson read_messages(Fields& fields) {
  OrderedJson messages = OrderedJson::array();
  if (const OrderedJson* system = fields.find("system")) {
    messages.push_back({{"role", "system"}, {"content", text_of(*system, "system")}});
  }
  const OrderedJson given = fields.require<OrderedJson>("messages");
  if (!given.is_array() || given.empty()) refuse_field("messages", "messages must be a list of at least one message");
  for (std::size_t i = 0; i < given.size(); ++i) {
    Fields message(given[i], at("messages", i));
    const auto role = message.choice("role", {"user", "assistant"});
    if (!role) message.require<std::string>("role");
    const OrderedJson* content = message.find("content");
    if (content == nullptr) refuse_field(message.param("content"), message.param("content") + " is missing");
    (*role == "user" ? add_user : add_assistant)(*content, message.param("content"), messages);
  }
  return messages;
}

/// In the OpenAI API's form.
OrderedJson read_anthropic_tools(Fields& fields) {
  const OrderedJson* given = fields.find("tools");
  if (given == nullptr) return {};
  if (!given->is_array()) refuse_field("tools", "tools must be a list");
  OrderedJson list = OrderedJson::array();
  for (std::size_t i = 0; i < given->size(); ++i) {
    Fields tool((*given)[i], at("tools", i));
    const auto type = tool.get_or<std::string>("type", "custom");
    if (type != "custom") {
      refuse_field(
          tool.param("type"),
          fmt::format("{} is '{}', but only tools that the client runs are supported", tool.param("type"), type),
          "give name, description and input_schema");
    }
    OrderedJson function = {{"name", tool.require<std::string>("name")}};
    if (const auto text = tool.get<std::string>("description")) function["description"] = *text;
    function["parameters"] = tool.require<OrderedJson>("input_schema");
    list.push_back({{"type", "function"}, {"function", std::move(function)}});
  }
  const OrderedJson converted = {{"tools", std::move(list)}};
  Fields tools(converted);
  return read_tools(tools);
}

void read_choice(Fields& fields, ChatInput& chat) {
  const OrderedJson* given = fields.find("tool_choice");
  if (given == nullptr) return;
  Fields choice(*given, "tool_choice");
  const auto type = choice.choice("type", {"auto", "any", "tool", "none"});
  if (!type) choice.require<std::string>("type");
  chat.parallel_calls = !choice.get_or<bool>("disable_parallel_tool_use", false);
  OrderedJson converted = *type == "any" ? "required" : OrderedJson(*type);
  if (*type == "tool")
    converted = {{"type", "function"}, {"function", {{"name", choice.require<std::string>("name")}}}};
  const OrderedJson body = {{"tool_choice", std::move(converted)}};
  Fields inner(body);
  chat.tool_choice = read_tool_choice(inner, chat.tools);
}

/// Whether the reply is to think first is the template's to decide; a budget is a wish that only max_tokens enforces.
void read_thinking(Fields& fields, ChatInput& chat) {
  bool thinks = false;
  if (const OrderedJson* given = fields.find("thinking")) {
    Fields thinking(*given, "thinking");
    const auto type = thinking.choice("type", {"enabled", "adaptive", "disabled"});
    thinks = (type ? *type : thinking.require<std::string>("type")) != "disabled";
    thinking.in_range("budget_tokens", 1024, 1, 1 << 30);
  }
  chat.template_args["enable_thinking"] = thinks;
}

void read_output(Fields& fields, MessagesRequest& request) {
  const OrderedJson* given = fields.find("output_config");
  if (given == nullptr) return;
  Fields output(*given, "output_config");
  if (const auto effort = output.get<std::string>("effort")) request.chat.template_args["reasoning_effort"] = *effort;
  const OrderedJson* format = output.find("format");
  if (format == nullptr) return;
  Fields inner(*format, "output_config.format");
  if (!inner.choice("type", {"json_schema"})) inner.require<std::string>("type");
  request.settings.constraint.kind = OutputConstraint::Kind::json_schema;
  request.settings.constraint.schema = inner.require<OrderedJson>("schema");
  request.settings.constraint.param = "output_config.format";
}

/// A conversation that ends with the assistant's words is gone on with there.
void continue_last(ChatInput& chat) {
  const OrderedJson& last = chat.messages.back();
  if (last["role"] != "assistant") return;
  if (last.contains("tool_calls"))
    refuse_field("messages", "the last message calls tools, but their results are missing");
  chat.continue_final_message = true;
  chat.add_generation_prompt = false;
}

}  // namespace

MessagesRequest read_messages_request(Fields& fields, bool counting) {
  MessagesRequest request;
  request.model = fields.get_or<std::string>("model", "");
  request.chat.messages = read_messages(fields);
  request.chat.tools = read_anthropic_tools(fields);
  read_choice(fields, request.chat);
  read_thinking(fields, request.chat);
  continue_last(request.chat);
  request.settings = read_generation_settings(fields);
  read_output(fields, request);
  if (request.settings.n != 1) fields.refuse("n", "a message has one reply");
  if (counting) {
    fields.accept({"max_tokens"});
  } else {
    fields.require<int>("max_tokens");
    request.settings.max_tokens = fields.in_range("max_tokens", 1, 1, 1 << 30);
  }
  for (std::string& text : fields.strings("stop_sequences")) {
    if (text.empty()) refuse_field("stop_sequences", "stop_sequences has an empty text");
    request.settings.stop.push_back(std::move(text));
  }
  fields.refuse("container", "nothing runs on the server but the model");
  fields.refuse("mcp_servers", "tools are run by the client");
  fields.refuse("context_management", "the conversation is taken as it is");
  return request;
}

}  // namespace bittern::server
