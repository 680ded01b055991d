// JsonCall: reads one call that is written as a JSON object, {"name": ..., "arguments": {...}}, byte by byte, so that
// its arguments go out as the model writes them. What arguments hold is only scanned for its end, not judged: a client
// is told to expect arguments that are not valid.
#pragma once

#include <string>
#include <string_view>

#include "server/tools/content_out.h"
#include "server/tools/tool_parser.h"

namespace bittern::server {

/// The end of one JSON value, found byte by byte.
class JsonValueEnd {
 public:
  enum class State { inside, complete, ended_before };  // ended_before: this byte is behind the value
  State push(char byte);

 private:
  int depth_ = 0;
  bool in_string_ = false, escaped_ = false, scalar_ = false;
};

class JsonCall {
 public:
  enum class State { reading, done, broken };

  /// Calls named by `index`. `known`: names that may be called; with an empty list any name will do. A name that may
  /// not be called breaks the object.
  JsonCall(int index, std::vector<std::string> known = {}) : index_(index), known_(std::move(known)) {}

  /// broken: the object is no call; text() is then all that was read, and nothing has been said to the sink.
  State push(char byte, ToolSink& sink);
  /// No more comes. Whether a call had been begun.
  bool finish(ToolSink& sink);
  /// Whether the name has gone out, so that this is a call.
  bool begun() const { return begun_; }
  const std::string& text() const { return text_; }

 private:
  enum class Place { start, key_or_end, key, colon, value_start, value, comma_or_end };

  State step(char byte, ToolSink& sink);
  State step_key(char byte);
  State begin_value(char byte, ToolSink& sink);
  State step_value(char byte, ToolSink& sink);
  State end_value(ToolSink& sink);
  State end_object(ToolSink& sink);
  bool take_name();
  void begin(ToolSink& sink);
  void add_arguments(std::string_view piece, ToolSink& sink);

  int index_;
  std::vector<std::string> known_;
  Place place_ = Place::start;
  JsonValueEnd end_;
  std::string text_, key_, value_;
  std::string name_;
  std::string early_;  // arguments that came before the name
  bool has_name_ = false, begun_ = false, has_arguments_ = false;
  bool streaming_ = false;  // the value being read is the arguments, as an object
};

/// The text has ended within `call`: it is a call if it had begun as one, and content otherwise.
void end_call(JsonCall& call, ContentOut& content, ToolSink& sink);

}  // namespace bittern::server
