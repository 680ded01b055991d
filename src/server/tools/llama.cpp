// Llama 3.x: the whole reply is {"name": ..., "parameters": {...}}, perhaps after <|python_tag|>, several with "; "
// between them. Nothing marks such a reply, so an object counts as a call only if it names a function that was offered.
#include <optional>

#include "server/tools/json_call.h"
#include "server/tools/mark_finder.h"

namespace bittern::server {
namespace {

class LlamaParser final : public ToolParser {
 public:
  explicit LlamaParser(const Tools& tools) {
    for (const Tool& tool : tools) names_.push_back(tool.name);
  }

  void push(std::string_view text, ToolSink& sink) override {
    for (char byte : text) step(byte, sink);
  }

  void finish(ToolSink& sink) override {
    if (call_) {
      end_call(*call_, content_, sink);
      call_.reset();
    }
    content_.add(finder_.take(), sink);
    content_.finish(sink);
  }

 private:
  void step(char byte, ToolSink& sink) {
    if (call_) return step_call(byte, sink);
    if (may_call_ && byte == '{') {
      content_.add(finder_.take(), sink);
      call_.emplace(calls_, names_);
      return step_call(byte, sink);
    }
    if (may_call_ && calls_ > 0 && byte == ';') return;
    step_content(byte, sink);
  }

  void step_content(char byte, ToolSink& sink) {
    std::string text;
    const int mark = finder_.push(byte, text);
    content_.add(text, sink);
    if (mark == 0) {
      may_call_ = true;
    } else if (text.find_first_not_of(" \t\r\n") != std::string::npos) {
      may_call_ = false;  // prose: an object in it is no call
    }
  }

  void step_call(char byte, ToolSink& sink) {
    const bool begun = call_->begun();
    const JsonCall::State state = call_->push(byte, sink);
    if (!begun && call_->begun()) {
      content_.call();
      ++calls_;
    }
    if (state == JsonCall::State::reading) return;
    const std::string text = state == JsonCall::State::broken && !call_->begun() ? call_->text() : "";
    call_.reset();
    if (state == JsonCall::State::broken) may_call_ = false;
    for (char c : text) step_content(c, sink);
  }

  std::vector<std::string> names_;
  MarkFinder finder_{{"<|python_tag|>"}};
  ContentOut content_;
  std::optional<JsonCall> call_;
  bool may_call_ = true;  // a call may begin here
  int calls_ = 0;
};

}  // namespace

std::unique_ptr<ToolParser> make_llama_parser(const Tools& tools) { return std::make_unique<LlamaParser>(tools); }

}  // namespace bittern::server
