// The event parser follows the HTML standard's section on server-sent events as far as `data` fields go.
#include "bench_serve_sse.h"

#include "base/json.h"

namespace bittern::cli {
namespace {

bool is_text(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() && !found->get_ref<const std::string&>().empty();
}

bool is_present(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && !found->is_null() && !found->empty();
}

bool has_token(const Json& choice) {
  if (!choice.is_object()) return false;
  if (is_text(choice, "text")) return true;
  const auto delta = choice.find("delta");
  if (delta == choice.end() || !delta->is_object()) return false;
  return is_text(*delta, "content") || is_text(*delta, "reasoning") || is_text(*delta, "reasoning_content") ||
         is_present(*delta, "tool_calls");
}

void read_usage(const Json& usage, StreamEvent& event) {
  event.has_usage = true;
  event.prompt_tokens = get_or<int>(usage, "prompt_tokens", 0, "usage");
  event.output_tokens = get_or<int>(usage, "completion_tokens", 0, "usage");
  const Json details = get_or<Json>(usage, "prompt_tokens_details", Json::object(), "usage");
  if (details.is_object()) event.cached_tokens = get_or<int>(details, "cached_tokens", 0, "prompt_tokens_details");
}

void read_error(const Json& error, StreamEvent& event) {
  const bool has_message = error.is_object() && is_text(error, "message");
  event.error = has_message ? error["message"].get<std::string>() : error.dump();
}

}  // namespace

std::optional<std::string_view> EventReader::line() {
  const std::size_t end = buffer_.find('\n', position_);
  if (end == std::string::npos) return std::nullopt;
  std::string_view text(buffer_.data() + position_, end - position_);
  position_ = end + 1;
  if (text.ends_with('\r')) text.remove_suffix(1);
  return text;
}

std::optional<std::string> EventReader::next() {
  while (const std::optional<std::string_view> text = line()) {
    if (text->empty()) {
      if (!has_data_) continue;
      has_data_ = false;
      return std::move(data_);
    }
    if (!text->starts_with("data:")) continue;
    std::string_view value = text->substr(5);
    if (value.starts_with(' ')) value.remove_prefix(1);
    if (has_data_) {
      data_ += '\n';
      data_ += value;
    } else {
      data_ = value;
    }
    has_data_ = true;
  }
  buffer_.erase(0, position_);
  position_ = 0;
  return std::nullopt;
}

StreamEvent parse_stream_event(std::string_view data) {
  StreamEvent event;
  try {
    const Json json = parse_json(data, "an event");
    if (!json.is_object()) throw Error(ErrorCode::invalid_argument, "an event is not an object");
    if (is_present(json, "error")) read_error(json["error"], event);
    const Json choices = get_or<Json>(json, "choices", Json::array());
    for (const Json& choice : choices) event.has_token = event.has_token || has_token(choice);
    const auto usage = json.find("usage");
    if (usage != json.end() && usage->is_object()) read_usage(*usage, event);
  } catch (const Error& error) {
    event.error = error.message();
    event.malformed = true;
  }
  return event;
}

}  // namespace bittern::cli
