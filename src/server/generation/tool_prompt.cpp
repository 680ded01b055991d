// The words a model is told of its tools in, and references inside schemas that move when schemas are joined.
#include "server/generation/tool_prompt.h"

#include <fmt/core.h>

#include "server/generation/chat_run.h"

namespace bittern::server {
namespace {

std::string instructions(const OrderedJson& tools) {
  std::string text = "You may call functions to help with the user's request. They are given as JSON:\n";
  for (const OrderedJson& tool : tools) text += tool["function"].dump() + "\n";
  return text +
         "To call one, write its name and arguments as JSON between two tags, and nothing after them:\n"
         "<tool_call>\n{\"name\": \"...\", \"arguments\": {...}}\n</tool_call>";
}

std::string calls_as_text(const OrderedJson& calls) {
  std::string text;
  for (const OrderedJson& call : calls) text += "<tool_call>\n" + call["function"].dump() + "\n</tool_call>";
  return text;
}

/// "#/..." inside a tool's schema leads to where that schema now stands.
void move_references(OrderedJson& schema, const std::string& root) {
  if (schema.is_array()) {
    for (OrderedJson& item : schema) move_references(item, root);
  } else if (schema.is_object()) {
    for (auto& item : schema.items()) {
      if (item.key() == "$ref" && item.value().is_string() &&
          item.value().get_ref<const std::string&>().starts_with("#")) {
        item.value() = root + item.value().get<std::string>().substr(1);
      } else {
        move_references(item.value(), root);
      }
    }
  }
}

/// A function takes no parameters that it does not declare, unless its schema says so.
void close_parameters(OrderedJson& schema) {
  if (schema.contains("properties") && !schema.contains("additionalProperties")) schema["additionalProperties"] = false;
}

OrderedJson call_schema(const OrderedJson& function, const std::string& root) {
  OrderedJson properties = {{"name", {{"const", function["name"]}}}, {"parameters", {{"$ref", root}}}};
  return {{"type", "object"},
          {"properties", std::move(properties)},
          {"required", {"name", "parameters"}},
          {"additionalProperties", false}};
}

}  // namespace

bool knows_tools(const std::string& template_source) { return template_source.find("tools") != std::string::npos; }

void describe_tools_in_text(OrderedJson& messages, const OrderedJson& tools) {
  for (OrderedJson& message : messages) {
    if (message.contains("tool_calls")) {
      message["content"] = message["content"].get<std::string>() + calls_as_text(message["tool_calls"]);
      message.erase("tool_calls");
    }
    if (message["role"] == "tool") {
      message["role"] = "user";
      message["content"] = "<tool_response>\n" + message["content"].get<std::string>() + "\n</tool_response>";
    }
  }
  if (tools.is_null()) return;
  if (messages[0]["role"] == "system") {
    messages[0]["content"] = messages[0]["content"].get<std::string>() + "\n\n" + instructions(tools);
  } else {
    messages.insert(messages.begin(), OrderedJson{{"role", "system"}, {"content", instructions(tools)}});
  }
}

OrderedJson forced_tools_schema(const OrderedJson& tools, const ToolChoice& choice, bool parallel) {
  OrderedJson definitions = OrderedJson::object(), calls = OrderedJson::array();
  for (std::size_t i = 0; i < tools.size(); ++i) {
    const OrderedJson& function = tools[i]["function"];
    if (choice.kind == ToolChoice::Kind::named && function["name"] != choice.name) continue;
    const std::string key = fmt::format("tool{}", i);
    OrderedJson parameters = function["parameters"];
    close_parameters(parameters);
    move_references(parameters, "#/$defs/" + key);
    definitions[key] = std::move(parameters);
    calls.push_back(call_schema(function, "#/$defs/" + key));
  }
  OrderedJson one = calls.size() == 1 ? calls[0] : OrderedJson{{"anyOf", calls}};
  if (choice.kind == ToolChoice::Kind::required && parallel) {
    one = {{"type", "array"}, {"minItems", 1}, {"items", std::move(one)}};
  }
  one["$defs"] = std::move(definitions);
  return one;
}

}  // namespace bittern::server
