// The C ABI of the Rust crate in this folder: tokenizers, chat templates, grammars. ffi.rs defines what is declared
// here; the two files change together. C++ code uses text/tokenizer.h and text/chat_template.h instead.
//
// Every fallible function returns true and fills its outputs, or returns false and fills only `error`, with
// "Class: message" in UTF-8. Handles and the owned structs are freed by the functions below. A handle may be used by
// several threads at once, except while bittern_bridge_template_protect runs, and except matchers.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct BridgeTokenizer BridgeTokenizer;
typedef struct BridgeTemplate BridgeTemplate;
typedef struct BridgeTrie BridgeTrie;
typedef struct BridgeGrammar BridgeGrammar;
typedef struct BridgeMatcher BridgeMatcher;

/// Borrowed bytes; `data` may be null when `size` is 0.
typedef struct {
  const char* data;
  size_t size;
} BridgeSlice;

/// Bytes [begin, end) of a text.
typedef struct {
  size_t begin;
  size_t end;
} BridgeRange;

/// Owned by the receiver, who frees them; `data` is null when `size` is 0.
typedef struct {
  char* data;
  size_t size;
} BridgeBytes;
typedef struct {
  uint32_t* data;
  size_t size;
} BridgeIds;
typedef struct {
  BridgeRange* data;
  size_t size;
} BridgeRanges;

void bittern_bridge_free_bytes(BridgeBytes bytes);
void bittern_bridge_free_ids(BridgeIds ids);
void bittern_bridge_free_ranges(BridgeRanges ranges);

/// Reads a tokenizer.json. Its truncation and padding are ignored.
bool bittern_bridge_tokenizer_new(BridgeSlice json, BridgeTokenizer** out, BridgeBytes* error);
/// Reads a SentencePiece .model; `settings` is tokenizer_config.json and `added` added_tokens.json, each may be empty.
bool bittern_bridge_tokenizer_from_sentencepiece(BridgeSlice model, BridgeSlice settings, BridgeSlice added,
                                                 BridgeTokenizer** out, BridgeBytes* error);
void bittern_bridge_tokenizer_free(BridgeTokenizer* tokenizer);

/// Encodes `text`. Special tokens that touch one of the `untrusted` ranges (sorted, disjoint) are read as plain text.
/// `add_special`: also what the post-processor adds. `offsets` may be null; it gets the bytes each id came from.
bool bittern_bridge_tokenizer_encode(const BridgeTokenizer* tokenizer, BridgeSlice text, const BridgeRange* untrusted,
                                     size_t untrusted_size, bool add_special, BridgeIds* ids, BridgeRanges* offsets,
                                     BridgeBytes* error);
/// The text of `ids`, as Hugging Face decodes it (unknown ids are left out).
bool bittern_bridge_tokenizer_decode(const BridgeTokenizer* tokenizer, const uint32_t* ids, size_t size,
                                     bool skip_special, BridgeBytes* text, BridgeBytes* error);
/// The token of an id as the vocabulary spells it, or (`as_bytes`) the bytes it adds to a text.
bool bittern_bridge_tokenizer_token(const BridgeTokenizer* tokenizer, uint32_t id, bool as_bytes, bool* found,
                                    BridgeBytes* token, BridgeBytes* error);
/// The id of a token as the vocabulary spells it; -1 when there is none.
bool bittern_bridge_tokenizer_id(const BridgeTokenizer* tokenizer, BridgeSlice token, int64_t* id, BridgeBytes* error);
/// One more than the largest id.
bool bittern_bridge_tokenizer_vocab_size(const BridgeTokenizer* tokenizer, size_t* size, BridgeBytes* error);
/// Calls `visit` for each added token in the order of their ids; `content` is valid during the call.
bool bittern_bridge_tokenizer_added_tokens(const BridgeTokenizer* tokenizer,
                                           void (*visit)(void* context, uint32_t id, bool special, BridgeSlice content),
                                           void* context, size_t* count, BridgeBytes* error);
/// For bittern_bridge_template_protect: characters that normalization may turn into one that begins or ends a special
/// token (a UTF-8 string), and whether special tokens are found only as they are spelled.
bool bittern_bridge_tokenizer_lookalikes(const BridgeTokenizer* tokenizer, bool* exact, BridgeBytes* lookalikes,
                                         BridgeBytes* error);

/// Compiles a chat template with Hugging Face's semantics.
bool bittern_bridge_template_new(BridgeSlice source, BridgeTemplate** out, BridgeBytes* error);
void bittern_bridge_template_free(BridgeTemplate* chat_template);
/// From now on renders tell which bytes came from the request and could be part of one of `specials`.
bool bittern_bridge_template_protect(BridgeTemplate* chat_template, const BridgeSlice* specials, size_t specials_size,
                                     BridgeSlice lookalikes, bool exact, BridgeBytes* error);
/// Renders with the variables of two JSON objects: `settings` are trusted, `request` is not. `now` is local time in
/// seconds since 1970, for strftime_now. `untrusted` gets sorted, disjoint ranges of `text`.
bool bittern_bridge_template_render(const BridgeTemplate* chat_template, BridgeSlice settings, BridgeSlice request,
                                    int64_t now, BridgeBytes* text, BridgeRanges* untrusted, BridgeBytes* error);

/// Rows of a Parquet file as JSON lines with those of `columns` (names, a newline between them) that it has; none is an
/// error of class "ColumnError", damage one of class "ParquetError", a codec other than Snappy and
/// Zstandard one of class "CodecError".
bool bittern_bridge_parquet_json_lines(BridgeSlice file, BridgeSlice columns, BridgeBytes* lines, BridgeBytes* error);

/// The vocabulary as a tree of bytes, which every grammar over it shares; it may outlive the tokenizer. `end_ids` (not
/// empty) are allowed where a text is complete.
bool bittern_bridge_trie_new(const BridgeTokenizer* tokenizer, const uint32_t* end_ids, size_t end_ids_size,
                             BridgeTrie** out, BridgeBytes* error);
void bittern_bridge_trie_free(BridgeTrie* trie);
/// `kind`: 0 a JSON schema, 1 any JSON object (no source), 2 a regular expression, 3 a Lark grammar, 4 a JSON list of
/// texts. What is malformed, unsupported or too large is an error of class "GrammarError".
bool bittern_bridge_grammar_new(const BridgeTrie* trie, uint32_t kind, BridgeSlice source, BridgeGrammar** out,
                                BridgeBytes* error);
void bittern_bridge_grammar_free(BridgeGrammar* grammar);
/// Follows one text from its beginning. A matcher belongs to one thread at a time; it may outlive its grammar.
bool bittern_bridge_matcher_new(const BridgeGrammar* grammar, BridgeMatcher** out, BridgeBytes* error);
bool bittern_bridge_matcher_copy(const BridgeMatcher* matcher, BridgeMatcher** out, BridgeBytes* error);
void bittern_bridge_matcher_free(BridgeMatcher* matcher);
/// Fills `words`, one bit a token, little endian; tokens beyond the tokenizer's get 0.
bool bittern_bridge_matcher_mask(BridgeMatcher* matcher, uint32_t* words, size_t words_size, BridgeBytes* error);
/// Goes on by one token, which must be allowed.
bool bittern_bridge_matcher_accept(BridgeMatcher* matcher, uint32_t token, BridgeBytes* error);
/// Forgets the last `tokens`.
bool bittern_bridge_matcher_rollback(BridgeMatcher* matcher, size_t tokens, BridgeBytes* error);
/// `stopped`: nothing but an end token may follow. `accepting`: an end token may follow.
bool bittern_bridge_matcher_state(BridgeMatcher* matcher, bool* stopped, bool* accepting, BridgeBytes* error);

/// "tokenizers 0.23.2;minijinja 3.1.0;...", the libraries inside; never freed.
const char* bittern_bridge_versions(void);

#ifdef __cplusplus
}
#endif
