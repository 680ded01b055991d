// ChatTemplate: a model's Jinja chat template, rendered with Hugging Face's semantics into a Prompt that remembers
// which bytes came from the request. It decides neither what a request may contain nor what answers mean.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "text/tokenizer.h"

namespace bittern::text {

/// What one request gives to the template. Objects keep their order, which templates print.
struct ChatRequest {
  OrderedJson messages = OrderedJson::array();  // [{"role": ..., "content": ...}, ...]
  OrderedJson tools;                            // null: the model is told of none
  bool add_generation_prompt = true;            // end where the assistant's answer begins
  OrderedJson extra = OrderedJson::object();    // further variables: enable_thinking, documents, ...
  std::optional<int64_t> now;                   // local time in seconds since 1970 for strftime_now; else the clock's
};

/// Safe to use from several threads.
class ChatTemplate {
 public:
  /// Finds the model's template: `override_source` (the bytes of --chat-template) if given, else chat_template.jinja,
  /// else "chat_template" of tokenizer_config.json (a string, or a list of named templates: "default", and "tool_use"
  /// for requests with tools), else chat_template.json. Throws Error(not_found) when the model has none, and
  /// Error(invalid_checkpoint) or, for the override, Error(invalid_argument) when it does not compile.
  ChatTemplate(const Tokenizer& tokenizer, const FileReader& read,
               std::optional<std::string> override_source = std::nullopt);
  /// As the constructor, but nullptr when the model has no template at all.
  static std::unique_ptr<ChatTemplate> load_if_any(const Tokenizer& tokenizer, const FileReader& read,
                                                   std::optional<std::string> override_source = std::nullopt);
  ~ChatTemplate();
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;

  /// Throws Error(invalid_argument) when the template refuses the messages or fails, or when the request spells out
  /// special tokens in a way that cannot be told apart from the template's own.
  Prompt render(const ChatRequest& request) const;

  /// The template's text: the one for requests without tools, or the one for requests with them.
  const std::string& source(bool with_tools = false) const;
  /// Where it came from: "--chat-template", "chat_template.jinja", "tokenizer_config.json", ...
  const std::string& found_in() const { return found_in_; }

 private:
  struct Compiled;

  void find(const FileReader& read, std::optional<std::string> override_source);
  void add(const std::string& name, std::string source, const Tokenizer& tokenizer);
  const Compiled& pick(bool with_tools) const;

  std::string origin_;
  std::string found_in_;
  std::map<std::string, std::string> sources_;  // by name
  std::map<std::string, std::unique_ptr<Compiled>> compiled_;
  std::string settings_;  // JSON: bos_token, eos_token, ...
};

/// Renders the request and encodes it.
inline std::vector<int32_t> encode_chat(const Tokenizer& tokenizer, const ChatTemplate& chat_template,
                                        const ChatRequest& request) {
  return tokenizer.encode(chat_template.render(request));
}

}  // namespace bittern::text
