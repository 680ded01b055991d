// Messages and tools, checked as the OpenAI API describes them.
#include "server/generation/chat_input.h"

#include <fmt/core.h>

#include <algorithm>

namespace bittern::server {
namespace {

const std::vector<std::string> kRoles = {"system", "developer", "user", "assistant", "tool", "function"};

std::string at(const std::string& param, std::size_t index) { return fmt::format("{}[{}]", param, index); }

/// The text of one part; other kinds are refused by name.
std::string part_text(const OrderedJson& part, const std::string& param) {
  if (part.is_string()) return part.get<std::string>();
  Fields fields(part, param);
  const std::string type = fields.require<std::string>("type");
  if (type == "text" || type == "input_text" || type == "output_text") return fields.require<std::string>("text");
  if (type == "refusal") return fields.require<std::string>("refusal");
  throw ApiError(ErrorCode::invalid_argument, fields.param("type"),
                 fmt::format("{} is '{}', but this model reads text alone", fields.param("type"), type),
                 "send parts of type 'text'", "unsupported_content");
}

}  // namespace

std::string content_text(const OrderedJson& content, const std::string& param) {
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array()) {
    refuse_field(
        param, fmt::format("{} must be a text or a list of parts, but it is {}", param, describe_json(Json(content))));
  }
  std::string text;
  for (std::size_t i = 0; i < content.size(); ++i) {
    if (i > 0) text += '\n';
    text += part_text(content[i], at(param, i));
  }
  return text;
}

namespace {

/// Templates print arguments as an object; a text that holds none is left as it is.
OrderedJson arguments_value(const std::string& text) {
  OrderedJson value = OrderedJson::parse(text, nullptr, false);
  return value.is_object() ? value : OrderedJson(text);
}

OrderedJson function_call(const OrderedJson& function, const std::string& param) {
  Fields fields(function, param);
  return {{"name", fields.require<std::string>("name")},
          {"arguments", arguments_value(fields.get_or<std::string>("arguments", "{}"))}};
}

OrderedJson call_list(const OrderedJson& calls, const std::string& param) {
  if (!calls.is_array()) refuse_field(param, param + " must be a list of calls");
  OrderedJson list = OrderedJson::array();
  for (std::size_t i = 0; i < calls.size(); ++i) {
    Fields fields(calls[i], at(param, i));
    OrderedJson call = {{"type", "function"}};
    if (auto id = fields.get<std::string>("id")) call["id"] = *id;
    const OrderedJson* function = fields.find("function");
    if (function == nullptr) refuse_field(fields.param("function"), fields.param("function") + " is missing");
    call["function"] = function_call(*function, fields.param("function"));
    list.push_back(std::move(call));
  }
  return list;
}

void add_calls(Fields& fields, OrderedJson& message) {
  if (const OrderedJson* calls = fields.find("tool_calls")) {
    if (!calls->empty()) message["tool_calls"] = call_list(*calls, fields.param("tool_calls"));
  } else if (const OrderedJson* call = fields.find("function_call")) {
    message["tool_calls"] =
        OrderedJson::array({{{"type", "function"}, {"function", function_call(*call, fields.param("function_call"))}}});
  }
}

void add_reasoning(Fields& fields, OrderedJson& message) {
  for (const char* key : {"reasoning_content", "reasoning"}) {
    const auto text = fields.get<std::string>(key);
    if (text && !message.contains("reasoning_content")) message["reasoning_content"] = *text;
  }
}

}  // namespace

OrderedJson normalize_message(const OrderedJson& value, const std::string& param) {
  Fields fields(value, param);
  std::string role = fields.require<std::string>("role");
  fields.choice("role", kRoles);
  OrderedJson message = {{"role", role == "function" ? "tool" : role}};
  if (role == "assistant") add_calls(fields, message);
  const OrderedJson* content = fields.find("content");
  if (content != nullptr) {
    message["content"] = content_text(*content, fields.param("content"));
  } else if (role == "assistant") {
    message["content"] = fields.get_or<std::string>("refusal", "");
  } else {
    refuse_field(fields.param("content"), fields.param("content") + " is missing");
  }
  if (role == "assistant") add_reasoning(fields, message);
  if (auto name = fields.get<std::string>("name")) message["name"] = *name;
  if (auto id = fields.get<std::string>("tool_call_id")) message["tool_call_id"] = *id;
  fields.refuse("audio", "this model reads text alone");
  return message;
}

namespace {

void check_name(const std::string& name, const std::string& param) {
  const bool good = !name.empty() && name.size() <= 128 && std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '_' || c == '-' || c == '.';
  });
  if (!good) {
    refuse_field(param, fmt::format("{} is '{}', but must be 1 to 128 letters, digits, '_', '-' or '.'", param, name));
  }
}

OrderedJson function_of(const OrderedJson& value, const std::string& param) {
  Fields fields(value, param);
  const std::string name = fields.require<std::string>("name");
  check_name(name, fields.param("name"));
  fields.get<std::string>("description");
  fields.get<bool>("strict");
  const OrderedJson* parameters = fields.find("parameters");
  if (parameters != nullptr && !parameters->is_object()) {
    refuse_field(fields.param("parameters"), fields.param("parameters") + " must be a JSON schema, an object");
  }
  OrderedJson function = value;
  if (parameters == nullptr) function["parameters"] = {{"type", "object"}, {"properties", OrderedJson::object()}};
  return function;
}

OrderedJson tool_of(const OrderedJson& value, const std::string& param) {
  Fields fields(value, param);
  const std::string type = fields.require<std::string>("type");
  if (type != "function") {
    refuse_field(fields.param("type"),
                 fmt::format("{} is '{}', but only 'function' is supported", fields.param("type"), type));
  }
  const OrderedJson* function = fields.find("function");
  if (function == nullptr) refuse_field(fields.param("function"), fields.param("function") + " is missing");
  return {{"type", "function"}, {"function", function_of(*function, fields.param("function"))}};
}

bool is_offered(const OrderedJson& tools, const std::string& name) {
  return std::any_of(tools.begin(), tools.end(),
                     [&](const OrderedJson& tool) { return tool["function"]["name"] == name; });
}

ToolChoice named_choice(const OrderedJson& value, const std::string& param, const OrderedJson& tools) {
  Fields fields(value, param);
  const std::string name = fields.require<std::string>("name");
  if (!is_offered(tools, name)) {
    refuse_field(fields.param("name"),
                 fmt::format("{} is '{}', which is none of the tools", fields.param("name"), name));
  }
  return {ToolChoice::Kind::named, name};
}

ToolChoice choice_of(const OrderedJson& value, const std::string& param, const OrderedJson& tools) {
  using Kind = ToolChoice::Kind;
  if (value == "none") return {Kind::none, ""};
  if (value == "auto") return {Kind::automatic, ""};
  if (value == "required") return {Kind::required, ""};
  if (!value.is_object()) {
    refuse_field(param, fmt::format("{} must be none, auto, required or a function, but it is {}", param,
                                    describe_json(Json(value))));
  }
  Fields fields(value, param);
  if (value.contains("name") && !value.contains("type")) return named_choice(value, param, tools);
  const std::string type = fields.require<std::string>("type");
  if (type != "function") {
    refuse_field(fields.param("type"),
                 fmt::format("{} is '{}', but only 'function' is supported", fields.param("type"), type));
  }
  const OrderedJson* function = fields.find("function");
  if (function == nullptr) refuse_field(fields.param("function"), fields.param("function") + " is missing");
  return named_choice(*function, fields.param("function"), tools);
}

/// What the template is told beside messages and tools.
OrderedJson read_template_args(Fields& fields) {
  OrderedJson args = OrderedJson::object();
  if (const OrderedJson* given = fields.find("chat_template_kwargs"))
    args = Fields(*given, "chat_template_kwargs").json();
  if (const OrderedJson* documents = fields.find("documents")) {
    if (!documents->is_array()) refuse_field("documents", "documents must be a list of objects");
    args["documents"] = *documents;
  }
  const auto effort = fields.choice("reasoning_effort", {"none", "minimal", "low", "medium", "high", "xhigh", "max"});
  if (effort) {
    args["reasoning_effort"] = *effort;
    if (!args.contains("enable_thinking")) args["enable_thinking"] = *effort != "none";
  }
  if (const auto thinking = fields.get<bool>("enable_thinking")) args["enable_thinking"] = *thinking;
  return args;
}

}  // namespace

OrderedJson normalize_messages(const OrderedJson& messages, const std::string& param) {
  if (messages.is_string()) return OrderedJson::array({{{"role", "user"}, {"content", messages}}});
  if (!messages.is_array()) refuse_field(param, fmt::format("{} must be a list of messages", param));
  if (messages.empty()) refuse_field(param, fmt::format("{} is empty", param));
  OrderedJson list = OrderedJson::array();
  for (std::size_t i = 0; i < messages.size(); ++i) list.push_back(normalize_message(messages[i], at(param, i)));
  return list;
}

OrderedJson read_tools(Fields& fields) {
  OrderedJson list = OrderedJson::array();
  if (const OrderedJson* tools = fields.find("tools")) {
    if (!tools->is_array()) refuse_field("tools", "tools must be a list");
    for (std::size_t i = 0; i < tools->size(); ++i) list.push_back(tool_of((*tools)[i], at("tools", i)));
  }
  if (const OrderedJson* functions = fields.find("functions")) {
    if (!functions->is_array()) refuse_field("functions", "functions must be a list");
    for (std::size_t i = 0; i < functions->size(); ++i) {
      list.push_back({{"type", "function"}, {"function", function_of((*functions)[i], at("functions", i))}});
    }
  }
  return list.empty() ? OrderedJson() : list;
}

ToolChoice read_tool_choice(Fields& fields, const OrderedJson& tools) {
  for (const char* key : {"tool_choice", "function_call"}) {
    const OrderedJson* value = fields.find(key);
    if (value == nullptr) continue;
    const ToolChoice choice = choice_of(*value, key, tools);
    const bool needs_tools = choice.kind == ToolChoice::Kind::required || choice.kind == ToolChoice::Kind::named;
    if (needs_tools && tools.is_null())
      refuse_field(key, fmt::format("{} asks for a call, but there are no tools", key));
    return choice;
  }
  return {};
}

Tools tool_list(const OrderedJson& tools) {
  Tools list;
  for (const OrderedJson& tool : tools) {
    list.push_back({tool["function"]["name"].get<std::string>(), tool["function"]["parameters"]});
  }
  return list;
}

ChatInput read_chat_input(Fields& fields) {
  ChatInput input;
  const OrderedJson* messages = fields.find("messages");
  if (messages == nullptr) {
    throw ApiError(ErrorCode::invalid_argument, "messages", "messages is missing", "", "missing_required_parameter");
  }
  input.messages = normalize_messages(*messages, "messages");
  input.tools = read_tools(fields);
  input.tool_choice = read_tool_choice(fields, input.tools);
  input.parallel_calls = fields.get_or("parallel_tool_calls", true);
  input.continue_final_message = fields.get_or("continue_final_message", false);
  input.add_generation_prompt = fields.get_or("add_generation_prompt", !input.continue_final_message);
  if (input.continue_final_message && input.add_generation_prompt) {
    refuse_field("continue_final_message", "continue_final_message and add_generation_prompt exclude each other");
  }
  input.add_special_tokens = fields.get_or("add_special_tokens", false);
  input.template_args = read_template_args(fields);
  fields.refuse("chat_template", "templates are not taken from requests", "start the server with --chat-template FILE");
  return input;
}

}  // namespace bittern::server
