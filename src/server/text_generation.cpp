// From token events to text events.
#include "server/text_generation.h"

#include <algorithm>

namespace bittern::server {

TextGeneration::TextGeneration(LoadedModel& model, TextRequest request)
    : tokenizer_(model.tokenizer()), shown_specials_(std::move(request.shown_specials)) {
  for (int i = 0; i < request.request.n; ++i) {
    samples_.push_back(
        {text::TextStream(tokenizer_, request.skip_special), text::StopMatcher(request.stop, request.include_stop)});
  }
  stats_.prompt_tokens = static_cast<std::int64_t>(request.request.prompt.size());
  start_ = std::chrono::steady_clock::now();
  stream_ = model.engine().submit(std::move(request.request));
}

std::optional<TextEvent> TextGeneration::next() {
  while (const auto token = stream_->next()) {
    if (auto event = convert(*token)) return event;
  }
  return std::nullopt;
}

std::optional<TextEvent> TextGeneration::next_for(std::chrono::milliseconds timeout, bool& timed_out) {
  while (const auto token = stream_->next_for(timeout, timed_out)) {
    if (auto event = convert(*token)) return event;
  }
  return std::nullopt;
}

void TextGeneration::count(const TokenEvent& token) {
  if (token.token < 0) return;
  const auto now = std::chrono::steady_clock::now();
  if (stats_.generated_tokens++ == 0) {
    first_ = now;
    stats_.first_token_seconds = std::chrono::duration<double>(now - start_).count();
  }
  stats_.decode_seconds = std::chrono::duration<double>(now - first_).count();
}

std::optional<TextEvent> TextGeneration::convert(const TokenEvent& token) {
  Sample& sample = samples_[static_cast<std::size_t>(token.sample)];
  if (sample.ended) return std::nullopt;
  count(token);
  TextEvent event;
  event.sample = token.sample;
  event.token = token;
  if (token.token >= 0) append(sample, text_of(sample, token.token), event);
  if (!sample.ended && token.finish != FinishReason::none) finish(sample, token.finish, event);
  return event;
}

std::string TextGeneration::text_of(Sample& sample, std::int32_t token) {
  if (std::find(shown_specials_.begin(), shown_specials_.end(), token) == shown_specials_.end()) {
    return sample.text.push(token);
  }
  return sample.text.finish() + tokenizer_.token(token).value_or("");
}

void TextGeneration::append(Sample& sample, const std::string& text, TextEvent& event) {
  const text::StopMatcher::Result result = sample.stops.push(text);
  event.text += result.text;
  if (!result.stopped) return;
  sample.ended = true;
  event.finish = FinishReason::stop;
  event.stop = result.stop;
  stream_->cancel(event.sample);
}

void TextGeneration::finish(Sample& sample, FinishReason reason, TextEvent& event) {
  append(sample, sample.text.finish(), event);
  if (sample.ended) return;
  event.text += sample.stops.finish();
  event.finish = reason;
  sample.ended = true;
}

}  // namespace bittern::server
