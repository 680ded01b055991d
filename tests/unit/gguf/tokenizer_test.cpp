// Tokenizers from GGUF metadata against the ids that come with each vocabulary, and what is refused.
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <sstream>

#include "support/expect_error.h"
#include "support/gguf_bytes.h"
#include "support/shared_data.h"
#include "tensor/gguf_model.h"
#include "tensor/gguf_pre.h"
#include "tensor/gguf_tokenizer.h"
#include "tensor/gguf_writer.h"
#include "text/tokenizer.h"

namespace bittern {
namespace {

std::string read_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

// The strings of a vocabulary lie between lines of this text.
std::vector<std::string> strings_of(const std::filesystem::path& path) {
  constexpr std::string_view kSeparator = "\n__ggml_vocab_test__\n";
  std::string text = read_text(path);
  std::vector<std::string> strings;
  for (std::size_t at = 0; at <= text.size();) {
    const auto end = std::min(text.find(kSeparator, at), text.size());
    strings.push_back(text.substr(at, end - at));
    at = end + kSeparator.size();
    if (end == text.size()) break;
  }
  if (!strings.empty() && strings.back().empty()) strings.pop_back();  // after the last separator
  return strings;
}

std::vector<std::vector<std::int32_t>> ids_of(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::vector<std::vector<std::int32_t>> lists;
  for (std::string line; std::getline(file, line);) {
    std::istringstream numbers(line);
    lists.emplace_back(std::istream_iterator<std::int32_t>(numbers), std::istream_iterator<std::int32_t>());
  }
  return lists;
}

text::Tokenizer tokenizer_of(const std::shared_ptr<const ModelFiles>& files) {
  return text::Tokenizer(files->origin(), [&](std::string_view name) -> std::optional<std::string> {
    if (name == "config.json") return std::nullopt;  // a vocabulary alone has no model
    const auto file = files->find(name);
    return file ? std::optional<std::string>(file->text()) : std::nullopt;
  });
}

class Vocabulary : public ::testing::TestWithParam<const char*> {};

TEST_P(Vocabulary, StringsEncodeToTheExpectedIdsAndBack) {
  const std::string name = std::string("gguf/ggml-vocab-") + GetParam() + ".gguf";
  SKIP_WITHOUT_SHARED_DATA(name);
  const text::Tokenizer tokenizer = tokenizer_of(open_gguf(testing::shared_data(name)));
  const auto strings = strings_of(testing::shared_data(name + ".inp"));
  const auto ids = ids_of(testing::shared_data(name + ".out"));
  ASSERT_EQ(strings.size(), ids.size());
  ASSERT_GE(strings.size(), 46U);
  for (std::size_t i = 0; i < strings.size(); ++i) {
    const auto got = tokenizer.encode(strings[i], {.add_special = false, .parse_special = false});
    EXPECT_EQ(got, ids[i]) << i << ": " << strings[i];
    EXPECT_EQ(tokenizer.decode(got, false), strings[i]);
  }
}

INSTANTIATE_TEST_SUITE_P(Gguf, Vocabulary, ::testing::Values("llama-spm", "phi-3", "gpt-2", "deepseek-llm"),
                         [](const auto& each) {
                           std::string name = each.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

// Of the folder's other names (bert-bge, command-r, deepseek-coder, falcon, llama-bpe, mpt, qwen2, refact, starcoder)
// there are strings and ids, but no vocabulary to read. Their cutting is tested below by pieces.

// GPT-2's printable stand-in for a byte, as UTF-8.
std::string stand_in(int byte) {
  int code = byte, next = 256;
  for (int b = 0; b <= byte; ++b) {
    const bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
    code = printable ? b : next++;
  }
  if (code < 0x80) return {static_cast<char>(code)};
  return {static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 63))};
}

// Metadata of a vocabulary of bytes and of the given merges' results.
std::shared_ptr<const ModelFiles> byte_vocabulary(const std::string& pre, const std::vector<std::string>& merges) {
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.push_back(stand_in(byte));
  for (const std::string& merge : merges) {
    const auto space = merge.find(' ');
    tokens.push_back(merge.substr(0, space) + merge.substr(space + 1));
  }
  GgufKeyValues values;
  values.text("general.architecture", "llama");
  values.text("tokenizer.ggml.model", "gpt2");
  values.text("tokenizer.ggml.pre", pre);
  values.texts("tokenizer.ggml.tokens", tokens);
  values.texts("tokenizer.ggml.merges", merges);
  testing::GgufBytes bytes;
  bytes.header(0, values.count());
  auto keep = std::make_shared<const std::string>(bytes.bytes + values.bytes());
  return std::make_shared<GgufModelFiles>(FileBytes{"bytes.gguf", std::as_bytes(std::span(*keep)), keep});
}

// How a name cuts four texts, all of whose neighbours would merge; "|" between pieces.
struct Cuts {
  std::vector<const char*> names;
  const char* digits;    // 1234
  const char* newlines;  // \n\n
  const char* mark;      // !a
  const char* capital;   // aB
};

const std::vector<Cuts> kCuts = {
    {{"llama-bpe", "llama3", "llama-v3", "falcon3", "smaug-bpe", "dbrx"}, "123|4", "\n\n", "!a", "aB"},
    {{"qwen2", "deepseek-r1-qwen", "stablelm2", "megrez", "seed-coder"}, "1|2|3|4", "\n\n", "!a", "aB"},
    {{"tekken"}, "1|2|3|4", "\n\n", "!a", "a|B"},
    {{"gpt-4o"}, "123|4", "\n\n", "!a", "a|B"},
    {{"deepseek-llm", "deepseek-coder"}, "1|2|3|4", "\n|\n", "!|a", "aB"},
    {{"deepseek-v3"}, "123|4", "\n\n", "!a", "aB"},
    {{"gpt-2", "olmo", "mpt", "phi-2", "trillion", "a.x-4.0"}, "1234", "\n\n", "!|a", "aB"},
    {{"smollm", "starcoder", "refact", "codeshell", "minerva-7b", "command-r"}, "1|2|3|4", "\n\n", "!|a", "aB"},
};

std::string pieces(const text::Tokenizer& tokenizer, const std::string& input) {
  std::string joined;
  for (const std::int32_t id : tokenizer.encode(input, {.add_special = false})) {
    joined += (joined.empty() ? "" : "|") + tokenizer.decode(std::span(&id, 1), false);
  }
  return joined;
}

TEST(GgufTokenizer, EveryNameCutsAsItsModelDoes) {
  const std::string newline = stand_in('\n');
  const std::vector<std::string> merges = {"1 2", "12 3", "123 4", newline + " " + newline, "! a", "a B"};
  std::vector<std::string> tested;
  for (const Cuts& cuts : kCuts) {
    for (const char* name : cuts.names) {
      const text::Tokenizer tokenizer = tokenizer_of(byte_vocabulary(name, merges));
      EXPECT_EQ(pieces(tokenizer, "1234"), cuts.digits) << name;
      EXPECT_EQ(pieces(tokenizer, "\n\n"), cuts.newlines) << name;
      EXPECT_EQ(pieces(tokenizer, "!a"), cuts.mark) << name;
      EXPECT_EQ(pieces(tokenizer, "aB"), cuts.capital) << name;
      const std::string text = "Ünïcode 中文字 かな \t \xF0\x9F\x98\x80 '' don't \r\n  x";
      EXPECT_EQ(tokenizer.decode(tokenizer.encode(text, {.add_special = false}), false), text) << name;
      tested.emplace_back(name);
    }
  }
  std::vector<std::string> known = gguf_pre_names();
  std::sort(known.begin(), known.end());
  std::sort(tested.begin(), tested.end());
  EXPECT_EQ(tested, known);
}

TEST(GgufTokenizer, UnknownCuttingIsRefusedByName) {
  for (const char* name : {"falcon", "default", "kimi-k2", "no such name", ""}) {
    EXPECT_ERROR(ErrorCode::unsupported, *name ? name : "has no tokenizer.ggml.pre",
                 byte_vocabulary(name, {})->find("tokenizer.json"));
  }
}

TEST(GgufTokenizer, SettingsSayWhatIsAdded) {
  SKIP_WITHOUT_SHARED_DATA("gguf/ggml-vocab-phi-3.gguf");
  const auto files = open_gguf(testing::shared_data("gguf/ggml-vocab-phi-3.gguf"));
  const Json settings = parse_json(files->require("tokenizer_config.json").text(), "settings");
  EXPECT_EQ(settings.at("bos_token"), "<s>");
  EXPECT_EQ(settings.at("eos_token"), "<|endoftext|>");
  EXPECT_EQ(settings.at("add_bos_token"), true);
  EXPECT_NE(settings.at("chat_template").get<std::string>().find("<|assistant|>"), std::string::npos);
  const Json generation = parse_json(files->require("generation_config.json").text(), "generation");
  EXPECT_EQ(generation.at("eos_token_id"), Json({32000, 32007}));
  const text::Tokenizer tokenizer = tokenizer_of(files);
  EXPECT_EQ(tokenizer.encode("Hello").front(), 1);
  EXPECT_EQ(tokenizer.special_ids().stop, (std::vector<std::int32_t>{32000, 32007}));
}

TEST(GgufTokenizer, MergesFollowTheScores) {
  const std::vector<std::string_view> tokens = {"a", "b", "c", "ab", "bc", "abc"};
  const std::vector<double> scores = {0, 0, 0, -2, -1, -3};
  const auto merges = merges_from_scores(tokens, scores, std::vector<std::int64_t>(6, 1));
  const std::vector<std::pair<std::string_view, std::string_view>> expected = {
      {"b", "c"}, {"a", "b"}, {"a", "bc"}, {"ab", "c"}};
  EXPECT_EQ(merges, expected);
}

TEST(GgufTokenizer, PreNamesAreFoundAgain) {
  Json digits = {{"type", "Digits"}, {"individual_digits", true}};
  Json bytes = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", false}, {"use_regex", true}};
  Json json = {{"normalizer", nullptr}, {"model", {{"ignore_merges", false}}}};
  json["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {digits, bytes}}};
  EXPECT_EQ(gguf_pre_name(json), "smollm");
  json["pre_tokenizer"] = bytes;
  EXPECT_EQ(gguf_pre_name(json), "gpt-2");
  json["normalizer"] = {{"type", "NFC"}};
  EXPECT_EQ(gguf_pre_name(json), std::nullopt);
}

}  // namespace
}  // namespace bittern
