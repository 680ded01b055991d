// What /v1/completions answers: the text_completion object, whole or in chunks, with the older form of
// log-probabilities (four lists over the tokens, those of the prompt included when it is echoed).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "server/generation/generation.h"
#include "server/generation/replies.h"
#include "server/openai/shapes.h"

namespace bittern::server {

struct CompletionOptions {
  ReplyHead head;
  GenerationSettings settings;
  std::vector<std::string> prompt_texts;  // of each prompt, to be echoed
  bool echo = false;
  bool logprobs = false;
  int shown = 1;  // of the samples of each prompt, those with the best mean log-probability
};

/// The four lists, growing token by token.
class CompletionLogprobs {
 public:
  CompletionLogprobs(const TokenSpeller& speller, bool skip_special) : speller_(speller), skip_special_(skip_special) {}
  /// `first`: the prompt's first token, which nothing predicts.
  void add(const TokenEvent& token, bool first = false);
  /// The lists since the last call.
  OrderedJson take();

 private:
  TokenSpeller speller_;
  bool skip_special_;
  std::int64_t offset_ = 0;  // characters of the tokens so far
  OrderedJson tokens_ = OrderedJson::array(), logprobs_ = OrderedJson::array(), top_ = OrderedJson::array(),
              offsets_ = OrderedJson::array();
};

class CompletionReply {
 public:
  CompletionReply(const Generation& generation, CompletionOptions options);
  /// Throws choice_failure() for a choice that failed.
  void collect(const TextEvent& event);
  OrderedJson finish(const Generation& generation);

 private:
  struct Choice {
    std::string text, stop;
    std::vector<TokenEvent> tokens;
    TokenEvent end;
    FinishReason finish = FinishReason::none;
    double score() const;
  };
  OrderedJson choice_json(const Generation& generation, int choice, int index) const;
  std::vector<int> best_of(int prompt, int samples) const;

  CompletionOptions options_;
  TokenSpeller speller_;
  std::vector<Choice> choices_;
};

std::unique_ptr<StreamWriter<Generation>> make_completion_stream(const Generation& generation,
                                                                 CompletionOptions options);

}  // namespace bittern::server
