// Mistral: [TOOL_CALLS] followed by a list [{"name": ..., "arguments": {...}}, ...], or, since tokenizer v11, each call
// as [TOOL_CALLS]name[ARGS]{...} (the mark [ARGS] may be missing, and [CALL_ID]id may stand before it).
#include <optional>

#include "server/tools/json_call.h"
#include "server/tools/mark_finder.h"

namespace bittern::server {
namespace {

constexpr int kToolCalls = 0, kArgs = 1, kCallId = 2;

class MistralParser final : public ToolParser {
 public:
  void push(std::string_view text, ToolSink& sink) override {
    for (char byte : text) step(byte, sink);
  }

  void finish(ToolSink& sink) override {
    if (call_) end_call(*call_, content_, sink);
    if (place_ == Place::arguments && !started_) sink.call({calls_ - 1, "", "{}"});
    if (place_ == Place::name) content_.add(name_, sink);
    content_.add(finder_.take(), sink);
    content_.finish(sink);
  }

 private:
  enum class Place { content, begin, list, object, name, arguments };

  void step(char byte, ToolSink& sink) {
    switch (place_) {
      case Place::content: return step_content(byte, sink);
      case Place::begin: return step_begin(byte, sink);
      case Place::list: return step_list(byte, sink);
      case Place::object: return step_object(byte, sink);
      case Place::name: return step_name(byte, sink);
      case Place::arguments: return step_arguments(byte, sink);
    }
  }

  void step_content(char byte, ToolSink& sink) {
    std::string text;
    const int mark = finder_.push(byte, text);
    content_.add(text, sink);
    if (mark == kToolCalls) place_ = Place::begin;
  }

  void step_begin(char byte, ToolSink& sink) {
    if (byte == ' ' || byte == '\n') return;
    place_ = byte == '[' ? Place::list : byte == '{' ? Place::object : Place::name;
    if (byte == '[') return;
    if (byte == '{') {
      call_.emplace(calls_);
      return step_object(byte, sink);
    }
    name_.clear();
    in_id_ = false;
    step_name(byte, sink);
  }

  void step_list(char byte, ToolSink& sink) {
    if (byte == ']') place_ = Place::content;
    if (byte != '{') return;
    call_.emplace(calls_);
    place_ = Place::object;
    step_object(byte, sink);
  }

  void step_object(char byte, ToolSink& sink) {
    const bool begun = call_->begun();
    const JsonCall::State state = call_->push(byte, sink);
    if (!begun && call_->begun()) begin_call();
    if (state == JsonCall::State::reading) return;
    const std::string text = state == JsonCall::State::broken && !call_->begun() ? call_->text() : "";
    place_ = state == JsonCall::State::done ? Place::list : Place::content;
    call_.reset();
    for (char c : text) step_content(c, sink);
  }

  void step_name(char byte, ToolSink& sink) {
    std::string text;
    const int mark = byte == '{' ? kArgs : finder_.push(byte, text);
    if (byte == '{') text = finder_.take();
    if (!in_id_) name_ += text;
    in_id_ = in_id_ || mark == kCallId;
    if (mark != kArgs) return;
    begin_call();
    sink.call({calls_ - 1, std::exchange(name_, {}), ""});
    place_ = Place::arguments;
    started_ = false;
    end_ = {};
    if (byte == '{') step_arguments(byte, sink);
  }

  void step_arguments(char byte, ToolSink& sink) {
    if (!started_ && (byte == ' ' || byte == '\n')) return;
    started_ = true;
    const auto end = end_.push(byte);
    if (end != JsonValueEnd::State::ended_before) sink.call({calls_ - 1, "", std::string(1, byte)});
    if (end != JsonValueEnd::State::inside) place_ = Place::content;
  }

  void begin_call() {
    content_.call();
    ++calls_;
  }

  MarkFinder finder_{{"[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"}};
  ContentOut content_;
  Place place_ = Place::content;
  std::optional<JsonCall> call_;
  JsonValueEnd end_;
  std::string name_;
  bool in_id_ = false;
  bool started_ = false;  // the arguments of the call that is being read have begun
  int calls_ = 0;
};

}  // namespace

std::unique_ptr<ToolParser> make_mistral_parser(const Tools&) { return std::make_unique<MistralParser>(); }

}  // namespace bittern::server
