// Grammar: which tokens may come next so that a text stays within a JSON schema, a regular expression, a Lark grammar
// or a list of choices, by llguidance over the tokenizer's own bytes. It knows no logits and no request; the server
// adapts a GrammarMatcher to the engine's TokenMask.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

struct BridgeTrie;
struct BridgeGrammar;
struct BridgeMatcher;

namespace bittern::text {

enum class GrammarKind : std::uint32_t {
  json_schema = 0,  // source: the schema, JSON
  json_object = 1,  // any JSON object; source: nothing
  regex = 2,        // source: a regular expression (Rust's syntax) that the whole text matches
  lark = 3,         // source: a grammar in llguidance's dialect of Lark
  choice = 4,       // source: a JSON list of texts, of which the whole text is one
};
/// "json_schema", "regex", ...
std::string_view grammar_kind_name(GrammarKind kind);

/// The vocabulary as a tree of bytes, and the tokens that end a text: made once (some tenths of a second for 150,000
/// tokens) and shared by all grammars.
class TokenTrie {
 public:
  /// `end_ids` may be drawn when a text is complete, and only then. Error(unsupported) without any: no text could end.
  TokenTrie(const Tokenizer& tokenizer, std::span<const std::int32_t> end_ids);
  ~TokenTrie();
  TokenTrie(const TokenTrie&) = delete;
  TokenTrie& operator=(const TokenTrie&) = delete;

  std::int32_t vocab_size() const { return vocab_size_; }

 private:
  friend class Grammar;
  BridgeTrie* bridge_ = nullptr;
  std::int32_t vocab_size_ = 0;
};

/// A compiled grammar. Immutable: any number of threads may make matchers of it.
class Grammar {
 public:
  /// Any thread. Error(invalid_argument) starting with the kind's name, for a source that is malformed, longer than
  /// 512 KiB, beyond llguidance's limits, or asks for what is not supported: an unsupported keyword of a JSON schema is
  /// named, never ignored.
  static std::shared_ptr<const Grammar> compile(std::shared_ptr<const TokenTrie> trie, GrammarKind kind,
                                                std::string_view source);
  ~Grammar();
  Grammar(const Grammar&) = delete;
  Grammar& operator=(const Grammar&) = delete;

  std::int32_t vocab_size() const { return trie_->vocab_size(); }

 private:
  friend class GrammarMatcher;
  explicit Grammar(std::shared_ptr<const TokenTrie> trie) : trie_(std::move(trie)) {}
  std::shared_ptr<const TokenTrie> trie_;
  BridgeGrammar* bridge_ = nullptr;
};

/// Follows one text. One thread at a time. What goes wrong inside (limits of a step) is Error(invalid_argument), and
/// every later call then fails likewise.
class GrammarMatcher {
 public:
  explicit GrammarMatcher(std::shared_ptr<const Grammar> grammar);
  GrammarMatcher(const GrammarMatcher& other);
  GrammarMatcher& operator=(const GrammarMatcher&) = delete;
  ~GrammarMatcher();

  /// Bit t (little endian in 32-bit words, (vocab_size + 31) / 32 of them): token t may come next. Once the text is
  /// complete and can only end, these are the end tokens.
  void mask(std::vector<std::uint32_t>& allowed);
  /// Goes on by a token that the mask allows.
  void accept(std::int32_t token);
  /// Takes back the last `tokens`; cheap.
  void rollback(std::size_t tokens);
  /// Nothing but an end token may follow.
  bool is_stopped() const { return state().stopped; }
  /// The text is complete as it stands.
  bool is_accepting() const { return state().accepting; }

 private:
  struct State {
    bool stopped = false;
    bool accepting = false;
  };
  State state() const;

  std::shared_ptr<const Grammar> grammar_;
  BridgeMatcher* bridge_ = nullptr;
};

}  // namespace bittern::text
