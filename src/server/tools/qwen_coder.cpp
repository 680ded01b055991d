// Qwen3-Coder: <tool_call><function=NAME><parameter=KEY>\nVALUE\n</parameter>...</function></tool_call>. Values are
// text; the function's schema says which of them are numbers, booleans, lists or objects. Arguments come out as JSON.
#include <algorithm>
#include <optional>

#include "base/strings.h"
#include "server/tools/content_out.h"
#include "server/tools/mark_finder.h"

namespace bittern::server {
namespace {

std::string json_text(std::string_view text) {
  return Json(std::string(text)).dump(-1, ' ', false, Json::error_handler_t::replace);
}

/// `text` inside a JSON string.
std::string escaped(std::string_view text) {
  const std::string all = json_text(text);
  return all.substr(1, all.size() - 2);
}

class QwenCoderParser final : public ToolParser {
 public:
  explicit QwenCoderParser(Tools tools) : tools_(std::move(tools)) {}

  void push(std::string_view text, ToolSink& sink) override {
    for (char byte : text) step(byte, sink);
    flush_text(sink);
  }

  void finish(ToolSink& sink) override {
    if (place_ == Place::content || place_ == Place::block || place_ == Place::function) {
      content_.add(finder_.take(), sink);
    } else if (place_ == Place::name) {
      content_.add(word_, sink);
    }
    content_.finish(sink);
  }

 private:
  enum class Place { content, block, name, function, key, value };

  void step(char byte, ToolSink& sink) {
    switch (place_) {
      case Place::content:
      case Place::block: return step_outside(byte, sink);
      case Place::name: return step_word(byte, sink, &QwenCoderParser::begin_function);
      case Place::function: return step_function(byte, sink);
      case Place::key: return step_word(byte, sink, &QwenCoderParser::begin_value);
      case Place::value: return step_value(byte, sink);
    }
  }

  void step_outside(char byte, ToolSink& sink) {
    std::string text;
    const int mark = finder_.push(byte, text);
    content_.add(text, sink);
    if (mark == kOpen) place_ = Place::block;
    if (mark == kClose) place_ = Place::content;
    if (mark == kFunction) place_ = Place::name;
  }

  void step_word(char byte, ToolSink& sink, void (QwenCoderParser::*then)(ToolSink&)) {
    if (byte != '>') {
      word_ += byte;
      return;
    }
    (this->*then)(sink);
    word_.clear();
  }

  void begin_function(ToolSink& sink) {
    content_.call();
    function_ = word_;
    sink.call({calls_, word_, ""});
    parameters_ = 0;
    place_ = Place::function;
  }

  void step_function(char byte, ToolSink& sink) {
    std::string text;
    const int mark = finder_.push(byte, text);
    content_.add(text, sink);
    if (mark == kParameter) place_ = Place::key;
    if (mark != kEndFunction && mark != kClose) return;
    sink.call({calls_++, "", parameters_ == 0 ? "{}" : "}"});
    place_ = mark == kClose ? Place::content : Place::block;
  }

  void begin_value(ToolSink& sink) {
    sink.call({calls_, "", (parameters_++ == 0 ? "{" : ", ") + json_text(word_) + ": "});
    as_text_ = is_text(word_);
    if (as_text_) sink.call({calls_, "", "\""});
    value_.clear();
    at_start_ = true;
    place_ = Place::value;
  }

  void step_value(char byte, ToolSink& sink) {
    if (std::exchange(at_start_, false) && byte == '\n') return;
    std::string text;
    const bool ended = value_end_.push(byte, text) == 0;
    value_ += text;
    if (!ended) return;
    if (value_.ends_with('\n')) value_.pop_back();
    if (as_text_) {
      sink.call({calls_, "", escaped(std::exchange(value_, {})) + "\""});
    } else {
      sink.call({calls_, "", as_json(value_)});
    }
    value_.clear();
    place_ = Place::function;
  }

  // A text goes out as it comes, all but a line's end, which may be the last and then is none of it.
  void flush_text(ToolSink& sink) {
    if (place_ != Place::value || !as_text_ || value_.empty()) return;
    const std::size_t keep = value_.ends_with('\n') ? 1 : utf8_incomplete_tail(value_);
    if (value_.size() > keep) sink.call({calls_, "", escaped(value_.substr(0, value_.size() - keep))});
    value_.erase(0, value_.size() - keep);
  }

  /// The value if it is JSON, else as a text.
  static std::string as_json(const std::string& value) {
    for (const auto& [python, json] :
         {std::pair("True", "true"), std::pair("False", "false"), std::pair("None", "null")}) {
      if (value == python) return json;
    }
    return Json::accept(value) ? value : json_text(value);
  }

  bool is_text(const std::string& key) const {
    const auto tool = std::find_if(tools_.begin(), tools_.end(), [&](const Tool& t) { return t.name == function_; });
    if (tool == tools_.end() || !tool->parameters.is_object()) return true;
    const OrderedJson::json_pointer where("/properties/" + escape_pointer(key));
    if (!tool->parameters.contains(where)) return true;
    const OrderedJson& schema = tool->parameters.at(where);
    return schema.is_object() && schema.contains("type") && schema.at("type") == "string";
  }

  static std::string escape_pointer(const std::string& key) {
    std::string out;
    for (char c : key) out += c == '~' ? std::string("~0") : c == '/' ? std::string("~1") : std::string(1, c);
    return out;
  }

  static constexpr int kOpen = 0, kClose = 1, kFunction = 2, kEndFunction = 3, kParameter = 4;
  Tools tools_;
  MarkFinder finder_{{"<tool_call>", "</tool_call>", "<function=", "</function>", "<parameter="}};
  MarkFinder value_end_{{"</parameter>"}};
  ContentOut content_;
  Place place_ = Place::content;
  std::string word_;      // a name or key that is being read
  std::string function_;  // being called
  std::string value_;     // of a parameter, as far as it has not gone out
  bool as_text_ = false, at_start_ = false;
  int parameters_ = 0, calls_ = 0;
};

}  // namespace

std::unique_ptr<ToolParser> make_qwen_coder_parser(const Tools& tools) {
  return std::make_unique<QwenCoderParser>(tools);
}

}  // namespace bittern::server
