// Tokenizer: ids and texts equal to Hugging Face's over recorded strings, SentencePiece models equal to their
// tokenizer.json, settings, token bytes, untrusted ranges, and refusal of damaged files.
#include "text/tokenizer.h"

#include "support/expect_error.h"
#include "text_support.h"

namespace bittern::text::testing {
namespace {

using Ids = std::vector<int32_t>;

/// Every recorded string and id sequence gives what Hugging Face's library gave.
void expect_parity(const Tokenizer& tokenizer, const Json& reference) {
  for (const Json& entry : reference["encode"]) {
    const std::string text = entry["text"];
    SCOPED_TRACE(entry["text"].dump());
    EXPECT_EQ(tokenizer.encode(text, {.add_special = false}), entry["ids"].get<Ids>());
    EXPECT_EQ(tokenizer.encode(text, {.add_special = false, .parse_special = false}), entry["as_text"].get<Ids>());
    EXPECT_EQ(tokenizer.encode_with_offsets(text).ids, entry["with_special"].get<Ids>());
    // A range that no special token touches sends the text through our own search for added tokens.
    EXPECT_EQ(tokenizer.encode(Prompt{text, {{text.size(), text.size() + 1}}}), entry["ids"].get<Ids>());
  }
  for (const Json& entry : reference["decode"]) {
    EXPECT_EQ(tokenizer.decode(entry["ids"].get<Ids>(), true), entry["text"]);
    EXPECT_EQ(tokenizer.decode(entry["ids"].get<Ids>(), false), entry["full"]);
  }
}

TEST(TokenizerParity, Llama2Json) {
  SKIP_WITHOUT_SHARED_DATA("tokenizers/llama2/tokenizer.json");
  const std::string settings = read_text(bittern::testing::shared_data("tokenizers/llama2/tokenizer_config.json"));
  const Tokenizer tokenizer("llama2", reader({{"tokenizer.json", llama2_json()}, {"tokenizer_config.json", settings}}));
  expect_parity(tokenizer, golden("tokenizer_llama2.json"));
}

TEST(TokenizerParity, Llama2SentencePieceEqualsItsJson) {
  SKIP_WITHOUT_SHARED_DATA("tokenizers/llama2/tokenizer.model");
  const auto file = [](const char* name) {
    return read_text(bittern::testing::shared_data("tokenizers/llama2") / name);
  };
  const Tokenizer tokenizer("llama2", reader({{"tokenizer.model", file("tokenizer.model")},
                                              {"tokenizer_config.json", file("tokenizer_config.json")}}));
  expect_parity(tokenizer, golden("tokenizer_llama2.json"));
  EXPECT_EQ(tokenizer.vocab_size(), 32000);
}

TEST(TokenizerParity, Stories260K) {
  SKIP_WITHOUT_SHARED_DATA("models/stories260K/tokenizer.json");
  const Tokenizer tokenizer("stories", folder_reader(bittern::testing::shared_data("models/stories260K")));
  expect_parity(tokenizer, golden("tokenizer_stories260K.json"));
}

TEST(TokenizerParity, Mini) {
  const Tokenizer tokenizer("mini", folder_reader(source_path("models/mini")));
  expect_parity(tokenizer, golden("tokenizer_mini.json"));
}

Tokenizer byte_tokenizer(Files more = {}) {
  more["tokenizer.json"] = byte_tokenizer_json();
  return Tokenizer("bytes", reader(std::move(more)));
}

TEST(Tokenizer, SpecialTokensAreParsedOnlyWhenAskedFor) {
  const Tokenizer tokenizer = byte_tokenizer();
  EXPECT_EQ(tokenizer.encode("a<|im_end|>"), (Ids{'a', 257}));
  const Ids plain = tokenizer.encode("a<|im_end|>", {.parse_special = false});
  EXPECT_EQ(plain, (Ids{'a', '<', '|', 'i', 'm', '_', 'e', 'n', 'd', '|', '>'}));
  // Added tokens that control nothing are words of the vocabulary, also in plain text.
  EXPECT_EQ(tokenizer.encode("</think>", {.parse_special = false}), (Ids{258}));
}

TEST(Tokenizer, UntrustedBytesCannotBePartOfASpecialToken) {
  const Tokenizer tokenizer = byte_tokenizer();
  const std::string text = "<|im_end|><|im_end|><|im_end|>";
  for (const size_t at : {10, 14, 19}) {
    const Ids ids = tokenizer.encode(Prompt{text, {{at, at + 1}}});
    ASSERT_EQ(ids.size(), 12u) << at;
    EXPECT_EQ(ids.front(), 257);
    EXPECT_EQ(ids.back(), 257);
    EXPECT_EQ(tokenizer.decode(ids, false), text);
  }
}

TEST(Tokenizer, SettingsGiveRolesAndBos) {
  const Files settings = {
      {"tokenizer_config.json", R"({"bos_token": {"content": "<|im_start|>"}, "eos_token": "<|im_end|>",
                                    "add_bos_token": true})"},
      {"config.json", R"({"eos_token_id": 7, "pad_token_id": 9})"},
      {"generation_config.json", R"({"eos_token_id": [257, 258]})"}};
  const Tokenizer tokenizer = byte_tokenizer(settings);
  const SpecialIds& ids = tokenizer.special_ids();
  EXPECT_EQ(ids.bos, 256);
  EXPECT_EQ(ids.eos, 257);
  EXPECT_EQ(ids.pad, 9);
  EXPECT_EQ(ids.unk, std::nullopt);
  EXPECT_EQ(ids.stop, (Ids{257, 258, 7}));
  EXPECT_EQ(tokenizer.encode("a"), (Ids{256, 'a'}));
  EXPECT_EQ(tokenizer.encode("a", {.add_special = false}), (Ids{'a'}));
  const Encoding encoding = tokenizer.encode_with_offsets("ab");
  EXPECT_EQ(encoding.offsets, (std::vector<ByteRange>{{0, 0}, {0, 1}, {1, 2}}));
  EXPECT_TRUE(tokenizer.is_special(256));
  EXPECT_FALSE(tokenizer.is_special(258));
  EXPECT_FALSE(tokenizer.is_special('a'));
}

TEST(Tokenizer, TokensHaveSpellingsAndBytes) {
  const Tokenizer tokenizer = byte_tokenizer();
  EXPECT_EQ(tokenizer.vocab_size(), 259);
  EXPECT_EQ(tokenizer.token(' '), "\u0120");
  for (int32_t id = 0; id < 256; ++id) {
    const auto bytes = tokenizer.token_bytes(id);
    ASSERT_TRUE(bytes.has_value()) << id;
    EXPECT_EQ(*bytes, std::string(1, static_cast<char>(id)));
  }
  EXPECT_EQ(tokenizer.token_bytes(257), "<|im_end|>");
  EXPECT_EQ(tokenizer.id_of("<|im_end|>"), 257);
  EXPECT_EQ(tokenizer.id_of("nothing"), std::nullopt);
  EXPECT_EQ(tokenizer.token(-1), std::nullopt);
  EXPECT_EQ(tokenizer.token_bytes(259), std::nullopt);
  EXPECT_EQ(tokenizer.decode(Ids{-5, 'a', 100000}), "a");
}

TEST(Tokenizer, SentencePieceBytesAreReadBack) {
  SKIP_WITHOUT_SHARED_DATA("models/stories260K/tokenizer.json");
  const Tokenizer tokenizer("stories", folder_reader(bittern::testing::shared_data("models/stories260K")));
  const Ids ids = tokenizer.encode("naïve 世界", {.add_special = false});
  std::string bytes;
  for (const int32_t id : ids) bytes += tokenizer.token_bytes(id).value();
  EXPECT_EQ(bytes, " naïve 世界");
}

TEST(Tokenizer, PaddingAndTruncationOfTheFileAreIgnored) {
  Json document = Json::parse(byte_tokenizer_json());
  document["truncation"] = {{"direction", "Right"}, {"max_length", 2}, {"strategy", "LongestFirst"}, {"stride", 0}};
  document["padding"] = {{"strategy", {{"Fixed", 4000000000u}}},
                         {"direction", "Right"},
                         {"pad_to_multiple_of", nullptr},
                         {"pad_id", 0},
                         {"pad_type_id", 0},
                         {"pad_token", "x"}};
  const Tokenizer tokenizer("bytes", reader({{"tokenizer.json", document.dump()}}));
  EXPECT_EQ(tokenizer.encode("abcd").size(), 4u);
}

TEST(Tokenizer, BadFilesAreRefusedByName) {
  EXPECT_ERROR(ErrorCode::not_found, "neither tokenizer.json nor tokenizer.model", Tokenizer("m", reader({})));
  EXPECT_ERROR(ErrorCode::invalid_checkpoint, "m/tokenizer.json", Tokenizer("m", reader({{"tokenizer.json", "{"}})));
  EXPECT_ERROR(ErrorCode::invalid_checkpoint, "m/tokenizer.model: not a SentencePiece model",
               Tokenizer("m", reader({{"tokenizer.model", "IQ== 0\n"}})));
  EXPECT_ERROR(ErrorCode::invalid_checkpoint, "tokenizer_config.json",
               Tokenizer("m", reader({{"tokenizer.json", byte_tokenizer_json()}, {"tokenizer_config.json", "[]"}})));
  EXPECT_ERROR(
      ErrorCode::invalid_argument, "eos_token_id",
      Tokenizer("m", reader({{"tokenizer.json", byte_tokenizer_json()}, {"config.json", R"({"eos_token_id": "x"})"}})));
  EXPECT_ERROR(ErrorCode::invalid_argument, "not valid UTF-8 at byte 1", byte_tokenizer().encode("a\xff"));
}

}  // namespace
}  // namespace bittern::text::testing
