// Calls that a grammar has forced (tool_choice "required" or a named function): nothing but a JSON object
// {"name", "parameters"}, or a list of them.
#include <optional>

#include "server/tools/json_call.h"

namespace bittern::server {
namespace {

class ForcedParser final : public ToolParser {
 public:
  void push(std::string_view text, ToolSink& sink) override {
    for (char byte : text) step(byte, sink);
  }
  void finish(ToolSink& sink) override {
    if (call_) call_->finish(sink);
    call_.reset();
  }

 private:
  // Between objects the grammar allows only white space, commas and the list's brackets.
  void step(char byte, ToolSink& sink) {
    if (!call_ && byte != '{') return;
    if (!call_) call_.emplace(calls_++);
    if (call_->push(byte, sink) != JsonCall::State::reading) call_.reset();
  }

  std::optional<JsonCall> call_;
  int calls_ = 0;
};

}  // namespace

std::unique_ptr<ToolParser> make_forced_tool_parser() { return std::make_unique<ForcedParser>(); }

}  // namespace bittern::server
