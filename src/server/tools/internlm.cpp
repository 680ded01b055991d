// InternLM 2 and 3: <|action_start|><|plugin|> {"name": ..., "parameters": {...}} <|action_end|>. Code for their
// interpreter is no function call and comes out as content.
#include "server/tools/marked_json.h"

namespace bittern::server {

std::unique_ptr<ToolParser> make_internlm_parser(const Tools&) {
  return std::make_unique<MarkedJsonParser>(
      MarkedJsonParser::Marks{{"<|action_start|><|plugin|>", "<|action_start|> <|plugin|>"},
                              "<|action_end|>",
                              {"<|action_start|><|interpreter|>", "<|action_start|> <|interpreter|>"}});
}

}  // namespace bittern::server
