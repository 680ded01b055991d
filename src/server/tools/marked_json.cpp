// The block parser that several styles share.
#include "server/tools/marked_json.h"

namespace bittern::server {
namespace {

std::vector<std::string> all_marks(const MarkedJsonParser::Marks& marks) {
  std::vector<std::string> all = marks.open;
  all.insert(all.end(), marks.plain.begin(), marks.plain.end());
  if (!marks.close.empty()) all.push_back(marks.close);
  return all;
}

}  // namespace

MarkedJsonParser::MarkedJsonParser(Marks marks)
    : opening_(marks.open.size()), closing_(opening_ + marks.plain.size()), finder_(all_marks(marks)) {}

void MarkedJsonParser::push(std::string_view text, ToolSink& sink) {
  for (char byte : text) step(byte, sink);
}

void MarkedJsonParser::step(char byte, ToolSink& sink) {
  if (place_ == Place::call) {
    step_call(byte, sink);
  } else {
    step_outside(byte, sink);
  }
}

void MarkedJsonParser::step_outside(char byte, ToolSink& sink) {
  if (place_ == Place::block && byte == '{') {
    content_.add(finder_.take(), sink);
    call_.emplace(calls_);
    place_ = Place::call;
    return step_call(byte, sink);
  }
  std::string text;
  const int mark = finder_.push(byte, text);
  content_.add(text, sink);
  if (mark < 0) return;
  const auto index = static_cast<std::size_t>(mark);
  place_ = index < opening_ ? Place::block : index < closing_ ? Place::plain : Place::content;
}

void MarkedJsonParser::step_call(char byte, ToolSink& sink) {
  const bool begun = call_->begun();
  const JsonCall::State state = call_->push(byte, sink);
  if (!begun && call_->begun()) {
    content_.call();
    ++calls_;
  }
  if (state == JsonCall::State::reading) return;
  if (state == JsonCall::State::done) {
    place_ = Place::block;
    call_.reset();
    return;
  }
  give_back(sink);
}

// What turned out to be no call is text, in which marks are looked for once more.
void MarkedJsonParser::give_back(ToolSink& sink) {
  const std::string text = call_->begun() ? "" : call_->text();
  call_.reset();
  place_ = Place::plain;
  for (char byte : text) step_outside(byte, sink);
}

void MarkedJsonParser::finish(ToolSink& sink) {
  if (call_) {
    const bool begun = call_->begun();
    if (call_->finish(sink)) {
      if (!begun) content_.call();
    } else {
      content_.add(call_->text(), sink);
    }
    call_.reset();
  }
  content_.add(finder_.take(), sink);
  content_.finish(sink);
}

}  // namespace bittern::server
