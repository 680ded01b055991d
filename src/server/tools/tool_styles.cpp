// The table of styles, and which one a model was trained in.
#include <bittern/error.h>
#include <fmt/core.h>

#include <algorithm>

#include "base/strings.h"
#include "server/tools/tool_parser.h"

namespace bittern::server {

const std::vector<ToolStyle>& tool_styles() {
  static const std::vector<ToolStyle> styles = {
      {"qwen3_coder",
       {"qwen3coder", "qwen3_xml"},
       "<tool_call><function=NAME><parameter=KEY> (Qwen3-Coder)",
       {"<function="},
       {"<tool_call>", "</tool_call>"},
       make_qwen_coder_parser},
      {"hermes",
       {"qwen", "qwen2d5", "qwen25", "qwen3"},
       "<tool_call> with JSON (Hermes, Qwen 2.5, Qwen 3)",
       {"<tool_call>"},
       {"<tool_call>", "</tool_call>"},
       make_hermes_parser},
      {"internlm",
       {"intern-s1", "internlm2", "internlm3"},
       "<|action_start|><|plugin|> with JSON (InternLM 2 and 3)",
       {"<|plugin|>", "<|action_start|>"},
       {"<|action_start|>", "<|action_end|>", "<|plugin|>", "<|interpreter|>"},
       make_internlm_parser},
      {"mistral",
       {},
       "[TOOL_CALLS] with JSON (Mistral)",
       {"[TOOL_CALLS]"},
       {"[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"},
       make_mistral_parser},
      {"llama3",
       {"llama3_json", "llama"},
       "bare JSON or <|python_tag|> (Llama 3.1, 3.2, 3.3)",
       {"<|python_tag|>", "\"parameters\": dictionary of argument name"},
       {"<|python_tag|>"},
       make_llama_parser},
  };
  return styles;
}

namespace {

bool teaches(std::string_view source, const ToolStyle& style) {
  return std::any_of(style.template_marks.begin(), style.template_marks.end(),
                     [&](std::string_view mark) { return source.find(mark) != std::string_view::npos; });
}

bool is_called(const ToolStyle& style, std::string_view name) {
  return style.name == name || std::find(style.aliases.begin(), style.aliases.end(), name) != style.aliases.end();
}

}  // namespace

const ToolStyle* find_tool_style(std::string_view name, std::string_view template_source) {
  if (name == "none") return nullptr;
  std::vector<std::string> names = {"auto", "none"};
  for (const ToolStyle& style : tool_styles()) {
    if (name == "auto" ? teaches(template_source, style) : is_called(style, name)) return &style;
    names.emplace_back(style.name);
  }
  if (name == "auto") return nullptr;
  throw Error(ErrorCode::invalid_argument,
              fmt::format("--tool-parser is '{}', but must be one of: {}", name, join(names, ", ")),
              did_you_mean(name, names));
}

}  // namespace bittern::server
