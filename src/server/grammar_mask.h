// Guided decoding: a text::Grammar as the engine's TokenMask. The mask of the next token is computed on a helper thread
// while the model runs, from the moment the last token is known; the engine waits only for what is not ready by then,
// and computes itself what no helper has begun.
#pragma once

#include <bittern/request.h>

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "text/grammar.h"

namespace bittern::server {

class MaskWorkers;

/// Makes masks for requests to one model. Any thread.
class GuidedDecoding {
 public:
  /// `tokenizer` must outlive it; `end_ids` are the tokens that end a sample of this model.
  GuidedDecoding(const text::Tokenizer& tokenizer, std::vector<std::int32_t> end_ids);
  ~GuidedDecoding();

  /// For Request::mask; good for one request of any n. Compiles `source`, unless it is among the last ones compiled.
  /// The first call also builds the tokenizer's trie. Errors as text::Grammar::compile and text::TokenTrie throw them.
  std::shared_ptr<TokenMask> mask(text::GrammarKind kind, std::string_view source);

 private:
  struct Compiled {
    text::GrammarKind kind;
    std::string source;
    std::shared_ptr<const text::Grammar> grammar;
  };
  std::shared_ptr<const text::TokenTrie> trie();
  std::shared_ptr<const text::Grammar> grammar(text::GrammarKind kind, std::string_view source);
  std::shared_ptr<const text::Grammar> find(text::GrammarKind kind, std::string_view source);

  const text::Tokenizer& tokenizer_;
  const std::vector<std::int32_t> end_ids_;
  std::mutex trie_mutex_;  // held while it is built
  std::shared_ptr<const text::TokenTrie> trie_;
  std::shared_ptr<MaskWorkers> workers_;  // made with the trie
  std::mutex compiled_mutex_;
  std::list<Compiled> compiled_;  // used last first
};

}  // namespace bittern::server
