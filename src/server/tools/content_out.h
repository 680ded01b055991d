// ContentOut: the text beside calls. White space before a call, between calls and at the end after one belongs to the
// markup and is left out; anywhere else it is kept.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "server/tools/tool_parser.h"

namespace bittern::server {

class ContentOut {
 public:
  void add(std::string_view text, ToolSink& sink) {
    const std::size_t end = text.find_last_not_of(" \t\r\n");
    if (end == std::string_view::npos) {
      space_ += text;
      return;
    }
    sink.content(std::exchange(space_, {}));
    after_call_ = false;
    sink.content(text.substr(0, end + 1));
    space_ = text.substr(end + 1);
  }
  /// A call begins here.
  void call() {
    space_.clear();
    after_call_ = true;
  }
  void finish(ToolSink& sink) {
    if (!after_call_) sink.content(space_);
    space_.clear();
  }

 private:
  std::string space_;  // held back
  bool after_call_ = false;
};

}  // namespace bittern::server
