// AssistantParts: a reply as a row of parts, each of one kind: reasoning, text, or one call. APIs that name and number
// the parts of a message (Anthropic's blocks, the items of /v1/responses) give each its form; where one ends and the
// next begins is decided here.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "server/generation/chat_run.h"

namespace bittern::server {

struct AssistantPart {
  enum class Kind { reasoning, content, call };
  Kind kind = Kind::content;
  int index = 0;     // among the parts
  std::string id;    // digits that no other part has
  std::string name;  // of a call
  std::string text;  // so far; the arguments of a call
};

/// Receives what happens, in order; each function may be left as it is.
class PartSink {
 public:
  virtual ~PartSink() = default;
  virtual void open(const AssistantPart&) {}
  virtual void delta(const AssistantPart&, std::string_view /*text*/) {}
  virtual void close(const AssistantPart&) {}
};

class AssistantParts {
 public:
  /// An event that ends the choice closes the last part.
  void add(const ChatEvent& event, PartSink& sink);
  const std::vector<AssistantPart>& parts() const { return parts_; }

 private:
  void append(AssistantPart::Kind kind, std::string_view text, PartSink& sink);
  void append_call(const ToolCallDelta& call, PartSink& sink);
  void begin(AssistantPart::Kind kind, std::string name, PartSink& sink);
  void close(PartSink& sink);
  bool is_open(AssistantPart::Kind kind) const { return open_ && parts_.back().kind == kind; }

  std::vector<AssistantPart> parts_;
  bool open_ = false;
  int call_ = -1;  // the message's index of the call that is open
};

/// Whether the choice ended by a fault of the server's, and its words.
inline bool failed(const ChatEvent& event) { return event.finish == "error" || event.finish == "cancelled"; }
std::string failure_text(const ChatEvent& event);

}  // namespace bittern::server
