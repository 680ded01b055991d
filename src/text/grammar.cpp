// Grammars over the Rust bridge: ownership and errors; the algorithms are llguidance's.
#include "text/grammar.h"

#include <utility>

#include "text/bridge_call.h"

namespace bittern::text {
namespace {

template <class Function, class... Args>
void call(std::string_view what, Function function, Args... args) {
  call_bridge(ErrorCode::invalid_argument, what, function, args...);
}

}  // namespace

std::string_view grammar_kind_name(GrammarKind kind) {
  constexpr std::string_view kNames[] = {"json_schema", "json_object", "regex", "lark", "choice"};
  return kNames[static_cast<std::size_t>(kind)];
}

TokenTrie::TokenTrie(const Tokenizer& tokenizer, std::span<const std::int32_t> end_ids)
    : vocab_size_(tokenizer.vocab_size()) {
  const std::vector<std::uint32_t> ids(end_ids.begin(), end_ids.end());
  call_bridge(ErrorCode::unsupported, tokenizer.origin() + ": guided decoding", bittern_bridge_trie_new,
              tokenizer.bridge(), ids.data(), ids.size(), &bridge_);
}

TokenTrie::~TokenTrie() { bittern_bridge_trie_free(bridge_); }

std::shared_ptr<const Grammar> Grammar::compile(std::shared_ptr<const TokenTrie> trie, GrammarKind kind,
                                                std::string_view source) {
  std::shared_ptr<Grammar> grammar(new Grammar(std::move(trie)));
  call(grammar_kind_name(kind), bittern_bridge_grammar_new, grammar->trie_->bridge_, static_cast<std::uint32_t>(kind),
       slice(source), &grammar->bridge_);
  return grammar;
}

Grammar::~Grammar() { bittern_bridge_grammar_free(bridge_); }

GrammarMatcher::GrammarMatcher(std::shared_ptr<const Grammar> grammar) : grammar_(std::move(grammar)) {
  call("grammar", bittern_bridge_matcher_new, grammar_->bridge_, &bridge_);
}

GrammarMatcher::GrammarMatcher(const GrammarMatcher& other) : grammar_(other.grammar_) {
  call("grammar", bittern_bridge_matcher_copy, other.bridge_, &bridge_);
}

GrammarMatcher::~GrammarMatcher() { bittern_bridge_matcher_free(bridge_); }

void GrammarMatcher::mask(std::vector<std::uint32_t>& allowed) {
  allowed.resize((static_cast<std::size_t>(grammar_->vocab_size()) + 31) / 32);
  call("grammar", bittern_bridge_matcher_mask, bridge_, allowed.data(), allowed.size());
}

void GrammarMatcher::accept(std::int32_t token) {
  call("grammar", bittern_bridge_matcher_accept, bridge_, static_cast<std::uint32_t>(token));
}

void GrammarMatcher::rollback(std::size_t tokens) { call("grammar", bittern_bridge_matcher_rollback, bridge_, tokens); }

GrammarMatcher::State GrammarMatcher::state() const {
  State state;
  call("grammar", bittern_bridge_matcher_state, bridge_, &state.stopped, &state.accepting);
  return state;
}

}  // namespace bittern::text
