// ToolParser: reads the tool calls out of a model's text while it is being written. One small file and one row of the
// table for each style that models were trained in (docs/adding-a-tool-parser.md). The result does not depend on how
// the text is cut into pieces, and a style's markup never reaches the content.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace bittern::server {

/// A function that the model may call.
struct Tool {
  std::string name;
  OrderedJson parameters;  // JSON schema; null: none was given
};
using Tools = std::vector<Tool>;

/// What became known of one call. The first delta of a call has its name; `arguments` of all, joined, are its
/// arguments.
struct ToolCallDelta {
  int index = 0;     // of the call within the message
  std::string name;  // of the first delta alone
  std::string arguments;
  bool operator==(const ToolCallDelta&) const = default;
};

/// Receives what a parser finds, in the order of the text.
class ToolSink {
 public:
  virtual ~ToolSink() = default;
  virtual void content(std::string_view text) = 0;
  virtual void call(ToolCallDelta delta) = 0;
};

class ToolParser {
 public:
  virtual ~ToolParser() = default;
  virtual void push(std::string_view text, ToolSink& sink) = 0;
  /// The text has ended, perhaps in the middle of a call: that call keeps the arguments it has.
  virtual void finish(ToolSink& sink) = 0;
};

/// One style of writing calls.
struct ToolStyle {
  std::string_view name;
  std::vector<std::string_view> aliases;  // names that vLLM and LMDeploy give it
  std::string_view summary;
  /// A chat template that holds all of these texts teaches this style; the first row that fits is taken.
  std::vector<std::string_view> template_marks;
  /// Marks that may be special tokens of the tokenizer, which must not vanish from the text.
  std::vector<std::string_view> marks;
  std::unique_ptr<ToolParser> (*make)(const Tools& tools);
};

/// Every style, the more particular before the more general.
const std::vector<ToolStyle>& tool_styles();
/// By --tool-parser: a name, an alias, "none" (null), or "auto" for the template's. Error(invalid_argument) lists the
/// names for one that is unknown.
const ToolStyle* find_tool_style(std::string_view name, std::string_view template_source);

/// Calls that a grammar has forced, see forced_tools_schema(): {"name", "parameters"}, or a list of these.
std::unique_ptr<ToolParser> make_forced_tool_parser();

// One factory for each file of this folder.
std::unique_ptr<ToolParser> make_hermes_parser(const Tools& tools);
std::unique_ptr<ToolParser> make_qwen_coder_parser(const Tools& tools);
std::unique_ptr<ToolParser> make_llama_parser(const Tools& tools);
std::unique_ptr<ToolParser> make_internlm_parser(const Tools& tools);
std::unique_ptr<ToolParser> make_mistral_parser(const Tools& tools);

}  // namespace bittern::server
