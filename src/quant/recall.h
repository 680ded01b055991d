// Recall from a long context: a sentence with a full name (the needle) is planted at a depth of a text of a wished
// length, among other names, and the surname is asked for at the end. What a KV cache of few bits loses shows here
// first. The text is drawn by us from a seed, of the simple kind that models/mini was trained on and every larger model
// reads. One run of the model answers a prompt: it is recalled when each token of the surname is the most likely one
// after those before it, which is what greedy generation would give.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "quant/quality.h"

namespace bittern::quant {

struct RecallOptions {
  std::vector<std::int64_t> lengths;                     // tokens of the whole sequence, at most
  std::vector<double> depths = {0, 0.25, 0.5, 0.75, 1};  // 0: the needle comes first, 1: last
  int samples = 10;                                      // prompts for each length and depth
  std::uint64_t seed = 1;
};

/// One prompt as text.
struct RecallText {
  std::string context;   // the text with the needle, without the question
  std::string question;  // "What is the full name of Emma?"
  std::string reply;     // how the answer begins: "The full name is Emma"
  std::string value;     // what is asked for: " Nasin", with the space before it
};

/// Where a prompt stands in the grid; it also is the number of its random stream.
struct RecallPlace {
  std::int64_t length = 0;
  double depth = 0;
  int sample = 0;
};

/// The places of a grid: by length, depth, sample. Errors: invalid_argument names the option (no length, a depth
/// outside [0, 1], no samples).
std::vector<RecallPlace> recall_places(const RecallOptions& options);

/// Text of one place: as many sentences as keep `count_tokens(text)`, the tokens of the whole sequence, within
/// place.length. A function of seed and place (and of what count_tokens says) alone.
/// Error(invalid_argument) where the length does not even hold the question.
RecallText make_recall_text(const RecallPlace& place, std::uint64_t seed,
                            const std::function<std::int64_t(const RecallText&)>& count_tokens);

/// A prompt as tokens: prompt, beginning of the reply and value, and which of them (ascending, > 0) are the value.
struct RecallPrompt {
  RecallPlace place;
  std::string value;
  std::vector<std::int32_t> ids;
  std::vector<std::int64_t> scored;
};

struct RecallAnswer {
  bool recalled = false;
  double nll = 0;  // nats over the value's tokens, given the right ones before
  std::int64_t tokens = 0;
};

/// Runs one prompt. Errors: invalid_argument when it does not fit; invalid_checkpoint for logits that are not finite.
RecallAnswer ask_recall(LogitSource& source, const RecallPrompt& prompt);

}  // namespace bittern::quant
