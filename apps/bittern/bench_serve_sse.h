// Server-sent events as OpenAI-compatible servers send them: `data:` lines cut out of a stream of bytes, and what one
// of them says about tokens. Event names and comments (pings) are passed over.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace bittern::cli {

class EventReader {
 public:
  void feed(std::string_view bytes) { buffer_ += bytes; }
  /// The data of the next complete event; nullopt until more is fed.
  std::optional<std::string> next();

 private:
  std::optional<std::string_view> line();

  std::string buffer_;
  std::size_t position_ = 0;
  std::string data_;
  bool has_data_ = false;
};

struct StreamEvent {
  bool has_token = false;  // text, reasoning or a tool call came
  bool has_usage = false;
  int prompt_tokens = 0, cached_tokens = 0, output_tokens = 0;
  std::string error;       // of the server, or what is wrong with the event
  bool malformed = false;  // the latter
};
/// One chunk of /v1/completions or /v1/chat/completions.
StreamEvent parse_stream_event(std::string_view data);

}  // namespace bittern::cli
