// TextStream: pieces are valid UTF-8 and join to the full decode, for real tokenizers and random ids.
#include "text/text_stream.h"

#include <random>

#include "base/strings.h"
#include "text_support.h"

namespace bittern::text::testing {
namespace {

using Ids = std::vector<int32_t>;

std::string stream(const Tokenizer& tokenizer, const Ids& ids, bool skip_special) {
  TextStream text(tokenizer, skip_special);
  std::string joined;
  for (const int32_t id : ids) {
    const std::string piece = text.push(id);
    EXPECT_TRUE(utf8_is_valid(piece)) << piece;
    joined += piece;
  }
  return joined + text.finish();
}

Tokenizer byte_tokenizer() { return Tokenizer("bytes", reader({{"tokenizer.json", byte_tokenizer_json()}})); }

TEST(TextStream, HoldsBackIncompleteCharacters) {
  const Tokenizer tokenizer = byte_tokenizer();
  TextStream text(tokenizer);
  EXPECT_EQ(text.push('a'), "a");
  EXPECT_EQ(text.push(0xF0), "");
  EXPECT_EQ(text.push(0x9F), "");
  EXPECT_EQ(text.push(0x98), "");
  EXPECT_EQ(text.push(0x80), "😀");
  EXPECT_EQ(text.finish(), "");
}

TEST(TextStream, InvalidEndBecomesTheReplacementCharacter) {
  const Tokenizer tokenizer = byte_tokenizer();
  TextStream text(tokenizer);
  EXPECT_EQ(text.push('a'), "a");
  EXPECT_EQ(text.push(0xE4), "");
  EXPECT_EQ(text.push(0xBD), "");
  EXPECT_EQ(text.finish(), "\uFFFD");
  EXPECT_EQ(text.push('b'), "b") << "a finished stream can start again";
}

TEST(TextStream, SpecialTokensAddNothingAndDoNotHoldText) {
  const Tokenizer tokenizer = byte_tokenizer();
  TextStream text(tokenizer);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(text.push(257), "");
  EXPECT_EQ(text.push('a'), "a");
  EXPECT_EQ(text.push(257), "");
  EXPECT_EQ(text.push('b'), "b");
  EXPECT_EQ(stream(tokenizer, {'a', 257, 'b'}, false), "a<|im_end|>b");
}

TEST(TextStream, LongRunsOfInvalidBytesDoNotPileUp) {
  const Tokenizer tokenizer = byte_tokenizer();
  const Ids ids(300, 0xFF);
  TextStream text(tokenizer);
  size_t shown = 0;
  for (const int32_t id : ids) shown += text.push(id).size();
  EXPECT_GT(shown, 3 * 200u);
  EXPECT_EQ(stream(tokenizer, ids, true), tokenizer.decode(ids));
}

/// Random ids, and real texts, give the text of the whole. Where a SentencePiece decode holds U+FFFD only validity is
/// promised (text_stream.h).
void expect_streams_like_decode(const Tokenizer& tokenizer, bool byte_fallback) {
  std::mt19937 random(3);
  for (int round = 0; round < 300; ++round) {
    Ids ids(random() % 60);
    for (int32_t& id : ids) id = static_cast<int32_t>(random() % static_cast<unsigned>(tokenizer.vocab_size()));
    for (const bool skip : {false, true}) {
      const std::string whole = tokenizer.decode(ids, skip);
      const std::string joined = stream(tokenizer, ids, skip);
      if (byte_fallback && whole.find("\uFFFD") != std::string::npos) continue;
      EXPECT_EQ(joined, whole);
    }
  }
  for (const std::string text : {"Hello  world,\n\n  naïve 世界 😀👩‍👩‍👧", " x", "  ", "नमस्ते दुनिया"}) {
    const Ids ids = tokenizer.encode(text);
    EXPECT_EQ(stream(tokenizer, ids, true), text);
  }
}

TEST(TextStream, MiniStreamsLikeDecode) {
  expect_streams_like_decode(Tokenizer("mini", folder_reader(source_path("models/mini"))), false);
}

TEST(TextStream, RandomBytesStreamLikeDecode) { expect_streams_like_decode(byte_tokenizer(), false); }

TEST(TextStream, SentencePieceStreamsLikeDecode) {
  SKIP_WITHOUT_SHARED_DATA("tokenizers/llama2/tokenizer.model");
  const std::string model = read_text(bittern::testing::shared_data("tokenizers/llama2/tokenizer.model"));
  expect_streams_like_decode(Tokenizer("llama2", reader({{"tokenizer.model", model}})), true);
}

TEST(TextStream, ByteFallbackCompletesCharacters) {
  SKIP_WITHOUT_SHARED_DATA("models/stories260K/tokenizer.json");
  const Tokenizer tokenizer("stories", folder_reader(bittern::testing::shared_data("models/stories260K")));
  const std::string text = "Once 世界 ሰላም 😀 end";
  EXPECT_EQ(stream(tokenizer, tokenizer.encode(text), true), text);
}

}  // namespace
}  // namespace bittern::text::testing
