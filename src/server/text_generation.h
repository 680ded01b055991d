// TextGeneration: a request as text. It submits tokens to the engine and turns the tokens that come back into text:
// whole characters only, stop strings matched across tokens, the sequence cancelled as soon as one is found.
#pragma once

#include <bittern/engine.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "server/loaded_model.h"
#include "text/stop_matcher.h"
#include "text/text_stream.h"

namespace bittern::server {

struct TextRequest {
  Request request;                           // the prompt as tokens and how to sample
  std::vector<std::string> stop;             // texts that end a sample
  bool include_stop = false;                 // keep the stop text in the output
  bool skip_special = true;                  // special tokens add nothing to the text
  std::vector<std::int32_t> shown_specials;  // but these do, as they are spelled: marks that a parser waits for
};

/// What became visible with one token. `text` may be empty while characters or stop strings are incomplete.
struct TextEvent {
  int sample = 0;
  std::string text;
  TokenEvent token;  // token.token < 0: no new token, the sample only ends
  FinishReason finish = FinishReason::none;
  std::string stop;  // the stop text that ended the sample, if one did
};

/// Times and counts of a finished or running generation.
struct GenerationStats {
  std::int64_t prompt_tokens = 0;
  std::int64_t generated_tokens = 0;
  double first_token_seconds = 0;  // from submit to the first token
  double decode_seconds = 0;       // from the first token to the last
  /// Prompt tokens per second until the first token, and tokens per second after it.
  double prefill_rate() const {
    return first_token_seconds > 0 ? static_cast<double>(prompt_tokens) / first_token_seconds : 0;
  }
  double decode_rate() const {
    return decode_seconds > 0 ? static_cast<double>(generated_tokens - 1) / decode_seconds : 0;
  }
};

class TextGeneration {
 public:
  /// Errors as Engine::submit throws them. An empty stop text is Error(invalid_argument).
  TextGeneration(LoadedModel& model, TextRequest request);

  /// The next event; nullopt when every sample has ended. With a timeout, `timed_out` tells the two empties apart.
  std::optional<TextEvent> next();
  std::optional<TextEvent> next_for(std::chrono::milliseconds timeout, bool& timed_out);
  /// As TokenStream::on_events: for readers that do not block.
  void on_events(std::function<void()> wake) { stream_->on_events(std::move(wake)); }
  /// Stops all samples; their last events follow with finish cancelled.
  void cancel() { stream_->cancel(); }

  std::uint64_t seed() const { return stream_->seed(); }
  /// As TokenStream::prompt_logprobs.
  const std::vector<TokenEvent>& prompt_logprobs() const { return stream_->prompt_logprobs(); }
  /// As TokenStream::progress.
  RequestProgress progress() const { return stream_->progress(); }
  const GenerationStats& stats() const { return stats_; }

 private:
  struct Sample {
    text::TextStream text;
    text::StopMatcher stops;
    bool ended = false;
  };

  /// nullopt for events that arrive after a stop text ended the sample.
  std::optional<TextEvent> convert(const TokenEvent& token);
  /// The text that the token completes.
  std::string text_of(Sample& sample, std::int32_t token);
  void append(Sample& sample, const std::string& text, TextEvent& event);
  void finish(Sample& sample, FinishReason reason, TextEvent& event);
  void count(const TokenEvent& token);

  const text::Tokenizer& tokenizer_;
  std::vector<std::int32_t> shown_specials_;
  std::vector<Sample> samples_;
  GenerationStats stats_;
  std::chrono::steady_clock::time_point start_, first_;
  std::unique_ptr<TokenStream> stream_;
};

}  // namespace bittern::server
