// ChatInput: a conversation as every chat API hands it to the model: messages, tools, what the template is told. The
// readers for the OpenAI API's shape are here; other APIs fill it themselves.
#pragma once

#include <string>
#include <vector>

#include "server/generation/fields.h"
#include "server/tools/tool_parser.h"

namespace bittern::server {

struct ToolChoice {
  enum class Kind { automatic, none, required, named };
  Kind kind = Kind::automatic;
  std::string name;  // named
};

struct ChatInput {
  /// [{"role", "content": text, ...}], as chat templates expect them; see normalize_messages().
  OrderedJson messages = OrderedJson::array();
  /// [{"type": "function", "function": {"name", "description", "parameters"}}], or null.
  OrderedJson tools;
  ToolChoice tool_choice;
  bool parallel_calls = true;
  bool add_generation_prompt = true;
  bool continue_final_message = false;  // the reply goes on where the last message ends
  bool add_special_tokens = false;      // those of the tokenizer, around what the template made
  OrderedJson template_args = OrderedJson::object();
  std::string param = "messages";  // for errors
};

/// Messages of the OpenAI API as templates expect them: parts joined to one text, arguments of calls as objects,
/// deprecated roles renamed. ApiError names the part that is wrong or, as an image, not supported.
OrderedJson normalize_message(const OrderedJson& message, const std::string& param);
OrderedJson normalize_messages(const OrderedJson& messages, const std::string& param);
/// The text of a content that is a text or a list of parts.
std::string content_text(const OrderedJson& content, const std::string& param);
/// "tools" and the deprecated "functions", checked; null when there are none.
OrderedJson read_tools(Fields& fields);
/// "tool_choice" and the deprecated "function_call". A name must be one of the tools.
ToolChoice read_tool_choice(Fields& fields, const OrderedJson& tools);
/// The functions in the form the parsers need.
Tools tool_list(const OrderedJson& tools);
/// Everything of a chat request that is neither sampling nor streaming.
ChatInput read_chat_input(Fields& fields);

}  // namespace bittern::server
