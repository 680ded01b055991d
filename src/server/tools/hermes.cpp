// Hermes, Qwen 2.5 and Qwen 3: <tool_call> {"name": ..., "arguments": {...}} </tool_call>, one block for each call.
#include "server/tools/marked_json.h"

namespace bittern::server {

std::unique_ptr<ToolParser> make_hermes_parser(const Tools&) {
  return std::make_unique<MarkedJsonParser>(MarkedJsonParser::Marks{{"<tool_call>"}, "</tool_call>", {}});
}

}  // namespace bittern::server
