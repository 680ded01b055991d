// TextStream: turns token ids that arrive one by one into text, never cutting a character in two.
// Main idea: decode a small window that starts before the last piece handed out, and hand out what is new, so that
// every decoder rule (leading spaces, byte fallback, joined pieces) applies as it does to the whole.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace bittern::text {

/// One generation's text. The pieces that push() and finish() return, joined, are Tokenizer::decode of all ids. One
/// exception: where a SentencePiece model emits bytes that are not UTF-8, decode also replaces the valid characters
/// beside them, which a stream has already handed out.
class TextStream {
 public:
  /// `tokenizer` must outlive the stream.
  explicit TextStream(const Tokenizer& tokenizer, bool skip_special = true)
      : tokenizer_(&tokenizer), skip_special_(skip_special) {}

  /// The text that this id completes: valid UTF-8, empty while a character is incomplete.
  std::string push(int32_t id);
  /// What was held back; an incomplete character becomes U+FFFD. The stream can be used for a new generation then.
  std::string finish();

 private:
  std::string take(const std::string& text);

  const Tokenizer* tokenizer_;
  bool skip_special_;
  std::vector<int32_t> window_;  // ids whose text is handed out but still sets the scene, then the ids that are held
  size_t held_from_ = 0;         // index of the first held id
  std::string shown_;            // text of the ids before held_from_, as the window decodes them
};

}  // namespace bittern::text
