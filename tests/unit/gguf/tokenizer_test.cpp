// Tokenizers from GGUF metadata against the ids that come with each vocabulary, and what is refused.
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <sstream>

#include "support/expect_error.h"
#include "support/shared_data.h"
#include "tensor/gguf_model.h"
#include "tensor/gguf_tokenizer.h"
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

INSTANTIATE_TEST_SUITE_P(Gguf, Vocabulary, ::testing::Values("llama-spm", "phi-3", "gpt-2"), [](const auto& each) {
  std::string name = each.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

// The folder's other vocabularies: deepseek-llm is cut by a rule of its own that Bittern does not have; of bert-bge,
// command-r, deepseek-coder, falcon, llama-bpe, mpt, qwen2, refact and starcoder there are strings and ids, but no
// vocabulary to read.
TEST(GgufTokenizer, UnknownCuttingIsRefusedByName) {
  SKIP_WITHOUT_SHARED_DATA("gguf/ggml-vocab-deepseek-llm.gguf");
  const auto files = open_gguf(testing::shared_data("gguf/ggml-vocab-deepseek-llm.gguf"));
  EXPECT_ERROR(ErrorCode::unsupported, "deepseek-llm", files->find("tokenizer.json"));
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
