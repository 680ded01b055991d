// A state for each place of the object; values are scanned by JsonValueEnd.
#include "server/tools/json_call.h"

#include <algorithm>

namespace bittern::server {
namespace {

bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

/// The text of a JSON string, with its quotes; nothing when it is not one.
std::optional<std::string> unquote(const std::string& json) {
  const Json value = Json::parse(json, nullptr, false);
  if (!value.is_string()) return std::nullopt;
  return value.get<std::string>();
}

}  // namespace

JsonValueEnd::State JsonValueEnd::push(char c) {
  if (in_string_) {
    if (escaped_) {
      escaped_ = false;
    } else if (c == '\\') {
      escaped_ = true;
    } else if (c == '"') {
      in_string_ = false;
      if (depth_ == 0) return State::complete;
    }
    return State::inside;
  }
  if (scalar_) return c == ',' || c == '}' || c == ']' || is_space(c) ? State::ended_before : State::inside;
  if (c == '"') {
    in_string_ = true;
  } else if (c == '{' || c == '[') {
    ++depth_;
  } else if (c == '}' || c == ']') {
    if (--depth_ <= 0) return State::complete;
  } else if (depth_ == 0) {
    scalar_ = true;
  }
  return State::inside;
}

JsonCall::State JsonCall::push(char byte, ToolSink& sink) {
  if (!begun_) text_ += byte;
  return step(byte, sink);
}

JsonCall::State JsonCall::step(char c, ToolSink& sink) {
  if (place_ == Place::value) return step_value(c, sink);
  if (place_ == Place::key) return step_key(c);
  if (is_space(c)) return State::reading;
  switch (place_) {
    case Place::start: place_ = Place::key_or_end; return c == '{' ? State::reading : State::broken;
    case Place::key_or_end:
      if (c == '}') return end_object(sink);
      if (c != '"') return State::broken;
      key_.assign(1, c);
      end_ = {};
      end_.push(c);
      place_ = Place::key;
      return State::reading;
    case Place::colon: place_ = Place::value_start; return c == ':' ? State::reading : State::broken;
    case Place::value_start: return begin_value(c, sink);
    case Place::comma_or_end:
      if (c == '}') return end_object(sink);
      place_ = Place::key_or_end;
      return c == ',' ? State::reading : State::broken;
    default: return State::broken;
  }
}

JsonCall::State JsonCall::step_key(char c) {
  key_ += c;
  if (end_.push(c) != JsonValueEnd::State::complete) return State::reading;
  const auto text = unquote(key_);
  if (!text) return State::broken;
  key_ = *text;
  place_ = Place::colon;
  return State::reading;
}

JsonCall::State JsonCall::begin_value(char c, ToolSink& sink) {
  const bool arguments = key_ == "arguments" || key_ == "parameters";
  if (arguments && has_arguments_) return State::broken;
  if (c == ',' || c == '}' || c == ']' || c == ':') return State::broken;
  streaming_ = arguments && (c == '{' || c == '[');
  has_arguments_ = has_arguments_ || arguments;
  value_.clear();
  end_ = {};
  place_ = Place::value;
  return step_value(c, sink);
}

JsonCall::State JsonCall::step_value(char c, ToolSink& sink) {
  const auto end = end_.push(c);
  if (end == JsonValueEnd::State::ended_before) {
    if (end_value(sink) == State::broken) return State::broken;
    return step(c, sink);
  }
  if (streaming_) {
    add_arguments(std::string_view(&c, 1), sink);
  } else {
    value_ += c;
  }
  return end == JsonValueEnd::State::complete ? end_value(sink) : State::reading;
}

JsonCall::State JsonCall::end_value(ToolSink& sink) {
  place_ = Place::comma_or_end;
  if (key_ == "name" && !has_name_) {
    if (!take_name()) return State::broken;
    if (has_arguments_) begin(sink);
  } else if ((key_ == "arguments" || key_ == "parameters") && !streaming_) {
    // A text that holds JSON stands for that JSON; null for no arguments.
    const std::string inner = unquote(value_).value_or(value_ == "null" ? "{}" : value_);
    add_arguments(inner.empty() ? "{}" : inner, sink);
  }
  streaming_ = false;
  return State::reading;
}

bool JsonCall::take_name() {
  const auto name = unquote(value_);
  if (!name || name->empty()) return false;
  if (!known_.empty() && std::find(known_.begin(), known_.end(), *name) == known_.end()) return false;
  name_ = *name;
  has_name_ = true;
  return true;
}

JsonCall::State JsonCall::end_object(ToolSink& sink) {
  if (!has_name_) return State::broken;
  if (!has_arguments_) add_arguments("{}", sink);
  return State::done;
}

void JsonCall::begin(ToolSink& sink) {
  begun_ = true;
  sink.call({index_, name_, ""});
  if (!early_.empty()) sink.call({index_, "", std::exchange(early_, {})});
}

void JsonCall::add_arguments(std::string_view piece, ToolSink& sink) {
  if (!has_name_) {
    early_ += piece;
    return;
  }
  if (!begun_) begin(sink);
  sink.call({index_, "", std::string(piece)});
}

bool JsonCall::finish(ToolSink& sink) {
  if (has_name_ && !begun_) begin(sink);
  return begun_;
}

void end_call(JsonCall& call, ContentOut& content, ToolSink& sink) {
  if (call.finish(sink)) {
    content.call();
  } else {
    content.add(call.text(), sink);
  }
}

}  // namespace bittern::server
