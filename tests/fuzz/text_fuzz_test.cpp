// Deterministic mutation of what comes from outside into text: tokenizer.json, SentencePiece models, template sources
// and contexts, straight through the bridge's C ABI. Nothing may crash, hang, or report a panic. The number of rounds
// is fixed; BITTERN_FUZZ_ROUNDS raises it for a longer hunt.
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "text/bridge_call.h"
#include "unit/text/text_support.h"

namespace bittern::text::testing {
namespace {

int rounds(int usual) {
  const char* chosen = std::getenv("BITTERN_FUZZ_ROUNDS");
  return chosen != nullptr ? std::atoi(chosen) : usual;
}

/// Cuts, repeats, overwrites and splices pieces of a seed; `words` are fragments worth trying.
class Mutator {
 public:
  Mutator(unsigned seed, std::vector<std::string> words) : random_(seed), words_(std::move(words)) {}

  std::string operator()(std::string text) {
    for (size_t n = 1 + random_() % 4; n > 0; --n) {
      const size_t at = below(text.size() + 1);
      const size_t size = std::min<size_t>(below(16), text.size() - at);
      switch (random_() % 5) {
        case 0: text.erase(at, size); break;
        case 1: text.insert(at, text.substr(at, size)); break;
        case 2: text.insert(at, words_[below(words_.size())]); break;
        case 3: text.replace(at, size, words_[below(words_.size())]); break;
        default:
          if (at < text.size()) text[at] = static_cast<char>(random_());
      }
    }
    return text;
  }

  size_t below(size_t limit) { return limit == 0 ? 0 : random_() % limit; }

 private:
  std::mt19937 random_;
  std::vector<std::string> words_;
};

struct Tally {
  int accepted = 0;
  int refused = 0;

  void add(const std::pair<bool, BridgeFailure>& outcome) {
    (outcome.first ? accepted : refused) += 1;
    EXPECT_NE(outcome.second.kind, "Panic") << outcome.second.message;
  }
};

/// A panic inside the library is caught, and is an error like another for a damaged file.
void use_tokenizer(BridgeTokenizer* tokenizer, Mutator& mutate) {
  const std::string text = mutate("Hello <|im_end|> wörld 世界 </think>  x");
  const BridgeRange range{2, 9};
  for (const size_t untrusted : {0, 1}) {
    Owned<BridgeIds> ids;
    Owned<BridgeRanges> offsets;
    try_bridge(bittern_bridge_tokenizer_encode, tokenizer, slice(text), &range, untrusted, true, ids.out(),
               offsets.out());
    Owned<BridgeBytes> decoded;
    try_bridge(bittern_bridge_tokenizer_decode, tokenizer, ids.begin(), ids.size(), false, decoded.out());
  }
}

TEST(TextFuzz, TokenizerJson) {
  Mutator mutate(1, {"null", "-1", "1e99", "4294967295", "\"\"", "[]", "{}", "true", "\"BPE\"", "\"Unigram\"",
                     "\"Metaspace\"", "\"Sequence\"", "\"Replace\"", "\"ByteFallback\"", "\\u0000", "\xff"});
  // A small document, so that mutations reach its structure and not only its vocabulary.
  const std::string seed =
      R"({"version":"1.0","truncation":null,"padding":null,"added_tokens":[{"id":5,"content":"<|im_end|>",
    "single_word":false,"lstrip":true,"rstrip":true,"normalized":true,"special":true}],"normalizer":{"type":"Sequence",
    "normalizers":[{"type":"NFC"},{"type":"Replace","pattern":{"Regex":" +"},"content":" "}]},"pre_tokenizer":{"type":"Split",
    "pattern":{"Regex":"\\w+|\\s"},"behavior":"Isolated","invert":false},"post_processor":{"type":"TemplateProcessing","single":
    [{"SpecialToken":{"id":"a","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"pair":[],"special_tokens":{"a":{"id":"a",
    "ids":[0],"tokens":["a"]}}},"decoder":{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true},
    "model":{"type":"BPE","dropout":null,"unk_token":"b","continuing_subword_prefix":null,"end_of_word_suffix":null,
    "fuse_unk":false,"byte_fallback":false,"vocab":{"a":0,"b":1,"ab":2,"l":3,"ll":4},"merges":["a b","l l"]}})";
  Tally tally;
  for (int i = 0; i < rounds(1500); ++i) {
    BridgeTokenizer* tokenizer = nullptr;
    const std::string json = i == 0 ? seed : mutate(seed);
    const auto outcome = try_bridge(bittern_bridge_tokenizer_new, slice(json), &tokenizer);
    (outcome.first ? tally.accepted : tally.refused) += 1;
    if (outcome.first) use_tokenizer(tokenizer, mutate);
    bittern_bridge_tokenizer_free(tokenizer);
  }
  EXPECT_GT(tally.accepted, 10);
  EXPECT_GT(tally.refused, 10);
}

TEST(TextFuzz, SentencePieceModel) {
  // Pieces <unk> (unknown), a, b, ab; trainer: BPE; normalizer: no dummy prefix.
  const auto piece = [](const std::string& text, char kind) {
    const std::string body =
        std::string("\x0a") + static_cast<char>(text.size()) + text + std::string("\x15\x00\x00\x80\xbf\x18", 6) + kind;
    return std::string("\x0a") + static_cast<char>(body.size()) + body;
  };
  const std::string seed = piece("<unk>", 2) + piece("<s>", 3) + piece("a", 1) + piece("b", 1) + piece("ab", 1) +
                           piece("\xe2\x96\x81", 1) + std::string("\x12\x02\x18\x02\x1a\x04\x18\x00\x20\x00", 10);
  Mutator mutate(2, {"\x0a", "\x12", "\x18", "\xff\xff\xff\xff\x0f", std::string(1, '\0'), "<0x41>"});
  Tally tally;
  for (int i = 0; i < rounds(3000); ++i) {
    BridgeTokenizer* tokenizer = nullptr;
    const std::string model = i == 0 ? seed : mutate(seed);
    tally.add(try_bridge(bittern_bridge_tokenizer_from_sentencepiece, slice(model), slice(""), slice(""), &tokenizer));
    if (tokenizer != nullptr) use_tokenizer(tokenizer, mutate);
    bittern_bridge_tokenizer_free(tokenizer);
  }
  EXPECT_GT(tally.accepted, 10);
  EXPECT_GT(tally.refused, 10);
}

TEST(TextFuzz, TemplatesAndContexts) {
  const std::vector<std::string> sources = {
      "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content|trim + '<|im_end|>' }}{% endfor %}",
      "{% set ns = namespace(a=0) %}{% macro f(x, y=1) %}{{ x ~ y }}{% endmacro %}{{ f(tools|tojson(indent=2)) }}"
      "{% if '</think>' in messages[0].content %}{{ messages[0].content.split('</think>')[-1].strip('\\n') }}{% endif "
      "%}",
      "{%- generation %}{{ messages[::-1]|map(attribute='role')|list|join(',') }}{% endgeneration -%}{{ "
      "strftime_now('%d %b') }}"};
  const std::string request = R"({"messages":[{"role":"user","content":"a <|im_end|> </think>\n b"},
    {"role":"assistant","content":null,"tool_calls":[{"function":{"name":"f","arguments":{"x":[1,2.5,"é"]}}}]}],"tools":[{"a":{}}]})";
  Mutator mutate(3, {"{{",
                     "}}",
                     "{%",
                     "%}",
                     "|",
                     "(",
                     ")",
                     "[",
                     "]",
                     "**99",
                     "*99999999",
                     "//0",
                     "range(99999999)",
                     "|list",
                     "|tojson",
                     ".split('')",
                     ".replace('','x')",
                     "|batch(0)",
                     "|indent(99999999)",
                     "[::-1]",
                     "{% for i in x %}",
                     "{% macro f() %}",
                     "{{ f() }}",
                     "~",
                     "is",
                     "not",
                     "null",
                     "\xf4\x8e\x80\x80",
                     "\xff",
                     "\\",
                     "'"});
  const std::vector<std::string> specials = {"<|im_start|>", "<|im_end|>", "</think>"};
  std::vector<BridgeSlice> slices;
  for (const std::string& special : specials) slices.push_back(slice(special));
  Tally compiled;
  Tally rendered;
  for (int i = 0; i < rounds(6000); ++i) {
    const std::string seed = sources[mutate.below(sources.size())];
    const std::string source = i % 3 == 0 ? seed : mutate(seed);
    const std::string context = i % 2 == 0 ? request : mutate(request);
    BridgeTemplate* chat_template = nullptr;
    compiled.add(try_bridge(bittern_bridge_template_new, slice(source), &chat_template));
    if (chat_template == nullptr) continue;
    compiled.add(
        try_bridge(bittern_bridge_template_protect, chat_template, slices.data(), slices.size(), slice(""), true));
    Owned<BridgeBytes> text;
    Owned<BridgeRanges> untrusted;
    rendered.add(try_bridge(bittern_bridge_template_render, chat_template, slice(R"({"bos_token":"<s>"})"),
                            slice(context), int64_t{0}, text.out(), untrusted.out()));
    for (const BridgeRange& range : untrusted) EXPECT_TRUE(range.begin < range.end && range.end <= text.size());
    bittern_bridge_template_free(chat_template);
  }
  EXPECT_GT(rendered.accepted, 100);
  EXPECT_GT(rendered.refused, 100);
}

}  // namespace
}  // namespace bittern::text::testing
