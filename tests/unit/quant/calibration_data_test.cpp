// Calibration data: windows and records as the embedded model's tokenizer cuts them, drawing by seed, and refusals.
#include "quant/calibration_data.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "base/sha256.h"
#include "support/expect_error.h"

namespace bittern::quant {
namespace {

std::optional<std::string> read_mini(std::string_view name) {
  const auto path = std::filesystem::path(BITTERN_SOURCE_DIR) / "models/mini" / name;
  if (!std::filesystem::exists(path)) return std::nullopt;
  std::ifstream file(path, std::ios::binary);
  return std::string{std::istreambuf_iterator<char>(file), {}};
}

class CalibrationDataTest : public ::testing::Test {
 protected:
  CalibrationData make(std::string_view name, std::string_view bytes, bool with_template = true) const {
    return make_calibration_data(name, bytes, tokenizer_, with_template ? &template_ : nullptr, options_);
  }

  text::Tokenizer tokenizer_{"mini", read_mini};
  text::ChatTemplate template_{tokenizer_, read_mini};
  CalibrationDataOptions options_{.samples = 4, .seqlen = 16, .seed = 1};
};

std::string numbers(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += std::to_string(i) + " ";
  return text;
}

TEST_F(CalibrationDataTest, WindowsOfATextStartWithBosAndDoNotOverlap) {
  const std::string text = numbers(200);
  options_.samples = 1000;
  const CalibrationData data = make("folder/a.txt", text);
  EXPECT_EQ(data.name, "a.txt");
  EXPECT_EQ(data.sha256, sha256(text));
  const auto ids = tokenizer_.encode(text, {.add_special = false, .parse_special = false});
  ASSERT_EQ(data.samples.size(), ids.size() / 15) << "seqlen counts BOS";
  std::vector<std::vector<std::int32_t>> expected;
  for (std::size_t begin = 0; begin + 15 <= ids.size(); begin += 15) {
    expected.push_back({*tokenizer_.special_ids().bos});
    for (std::size_t i = 0; i < 15; ++i) expected.back().push_back(ids[begin + i]);
  }
  auto found = data.samples;
  std::ranges::sort(found);
  std::ranges::sort(expected);
  EXPECT_EQ(found, expected);
  EXPECT_EQ(data.tokens(), std::ssize(expected) * 16);
}

TEST_F(CalibrationDataTest, SeedsDrawDifferentlyAndRepeat) {
  const std::string text = numbers(400);
  const CalibrationData first = make("a.txt", text);
  EXPECT_EQ(first.samples.size(), 4u);
  EXPECT_GT(first.available, 4);
  EXPECT_EQ(make("a.txt", text).samples, first.samples);
  options_.seed = 2;
  EXPECT_NE(make("a.txt", text).samples, first.samples);
}

TEST_F(CalibrationDataTest, SpecialTokensOfATextArePlainText) {
  options_.samples = 100;
  for (const auto& sample : make("a.txt", "<|end|> " + numbers(100)).samples) {
    EXPECT_EQ(std::ranges::count(sample, *tokenizer_.id_of("<|end|>")), 0);
  }
}

TEST_F(CalibrationDataTest, RecordsOfEveryKind) {
  options_.seqlen = 64;
  const std::string lines =
      "{\"text\": \"One two three four five six seven eight nine ten\"}\n\n"
      "{\"messages\": [{\"role\": \"user\", \"content\": \"What is 2 + 3?\"}, {\"role\": \"assistant\", \"content\": "
      "\"5\"}]}\n"
      "{\"prompt\": \"What is 4 + 3?\", \"completion\": \"7\"}\n";
  auto found = make("a.jsonl", lines).samples;
  ASSERT_EQ(found.size(), 3u);
  text::ChatRequest request;
  request.add_generation_prompt = false;
  std::vector<std::vector<std::int32_t>> expected = {
      tokenizer_.encode("One two three four five six seven eight nine ten")};
  for (const auto& [question, answer] : {std::pair("What is 2 + 3?", "5"), std::pair("What is 4 + 3?", "7")}) {
    request.messages = OrderedJson::parse(R"([{"role": "user"}, {"role": "assistant"}])");
    request.messages[0]["content"] = question;
    request.messages[1]["content"] = answer;
    expected.push_back(text::encode_chat(tokenizer_, template_, request));
  }
  std::ranges::sort(found);
  std::ranges::sort(expected);
  EXPECT_EQ(found, expected);
}

TEST_F(CalibrationDataTest, LongRecordsAreCut) {
  const CalibrationData data = make("a.jsonl", "{\"text\": \"" + numbers(100) + "\"}");
  ASSERT_EQ(data.samples.size(), 1u);
  EXPECT_EQ(data.samples[0].size(), 16u);
}

TEST_F(CalibrationDataTest, RefusalsNameTheReason) {
  const auto invalid = ErrorCode::invalid_argument;
  EXPECT_ERROR(invalid, "is empty", make("a.txt", "  \n"));
  EXPECT_ERROR(invalid, "too few for one sequence of 16", make("a.txt", "Hello"));
  EXPECT_ERROR(invalid, "not UTF-8", make("a.txt", "\xff\xfe" + numbers(100)));
  EXPECT_ERROR(invalid, "line 2", make("a.jsonl", "\n{\"text\": \n"));
  EXPECT_ERROR(invalid, "it has: question, reply", make("a.jsonl", "{\"question\": 1, \"reply\": 2}"));
  EXPECT_ERROR(invalid, "'text' is not a string", make("a.jsonl", "{\"text\": 3}"));
  EXPECT_ERROR(invalid, "no record of 8 tokens", make("a.jsonl", "{\"text\": \"a\"}"));
  EXPECT_ERROR(invalid, "no chat template",
               make("a.jsonl", "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}", false));
  EXPECT_ERROR(ErrorCode::unsupported, "a.csv", make("a.csv", "1,2"));
  options_.max_positions = 8;
  EXPECT_ERROR(invalid, "context of 8", make("a.txt", numbers(100)));
  options_.max_positions = 0;
  options_.vocab = 20;
  EXPECT_ERROR(ErrorCode::invalid_checkpoint, "the model has 20", make("a.txt", numbers(100)));
}

std::string parquet(const std::string& name) {
  const auto path = std::filesystem::path(BITTERN_SOURCE_DIR) / "tests/golden/parquet" / (name + ".parquet");
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

// The file (tools/make_parquet_golden.py) gives what the same records give as JSON lines.
TEST_F(CalibrationDataTest, ParquetRowsAreRecords) {
  options_.samples = 100;
  options_.seqlen = 64;
  std::string texts;
  for (int i = 0; i < 12; ++i) {
    const std::string n = std::to_string(i);
    const std::string text =
        "Row " + n + ": a fox counts " + n + " stars, writes \u201c" + n + "\u201d down, and then goes home to sleep.";
    texts += "{\"text\": \"" + text + "\"}\n";
  }
  const CalibrationData rows = make("folder/t.parquet", parquet("text_snappy"));
  EXPECT_EQ(rows.name, "t.parquet");
  EXPECT_EQ(rows.sha256, sha256(parquet("text_snappy")));
  EXPECT_EQ(rows.samples.size(), 12U);
  EXPECT_EQ(rows.samples, make("t.jsonl", texts).samples);

  options_.column = "body";
  const CalibrationData chosen = make("b.parquet", parquet("body"));
  EXPECT_EQ(chosen.name, "b.parquet:body");
  EXPECT_EQ(chosen.samples, rows.samples);
}

TEST_F(CalibrationDataTest, ParquetConversationsGoThroughTheTemplate) {
  options_.samples = 100;
  options_.seqlen = 64;
  std::string lines;
  for (int i = 0; i < 6; ++i) {
    lines += R"({"messages": [{"role": "user", "content": "What is )" + std::to_string(i) + " plus " +
             std::to_string(i) + R"(?"}, {"role": "assistant", "content": "It is )" + std::to_string(2 * i) +
             R"(, as everybody knows."}]})" + "\n";
  }
  const auto expected = make("m.jsonl", lines).samples;
  ASSERT_EQ(expected.size(), 6U);
  EXPECT_EQ(make("m.parquet", parquet("messages_zstd")).samples, expected);
  EXPECT_EQ(make("c.parquet", parquet("conversations")).samples, expected) << "ShareGPT's names";
}

TEST_F(CalibrationDataTest, ParquetThatCannotBeUsedIsRefused) {
  EXPECT_ERROR(ErrorCode::invalid_argument, "it has: body, title", make("b.parquet", parquet("body")));
  EXPECT_ERROR(ErrorCode::invalid_argument, "not marked as text", make("b.parquet", parquet("bytes")));
  EXPECT_ERROR(ErrorCode::unsupported, "GZIP", make("z.parquet", parquet("gzip")));
  EXPECT_ERROR(ErrorCode::invalid_argument, "p.parquet", make("p.parquet", "PAR1 and nothing more"));
  options_.column = "id";
  EXPECT_ERROR(ErrorCode::invalid_argument, "'id' is not a string", make("t.parquet", parquet("text_snappy")));
  EXPECT_ERROR(ErrorCode::invalid_argument, "--column is for records", make("t.txt", numbers(200)));
}

// Every truncation, and bytes changed here and there: rows or an Error, nothing else.
TEST_F(CalibrationDataTest, DamagedParquetIsRefused) {
  const std::string whole = parquet("text_snappy");
  int refused = 0;
  for (std::size_t at = 0; at < whole.size(); at += 7) {
    std::string changed = whole;
    changed[at] = static_cast<char>(changed[at] ^ 0x5a);
    for (const std::string& bytes : {whole.substr(0, at), changed}) {
      try {
        make("t.parquet", bytes);
      } catch (const Error&) {
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, static_cast<int>(whole.size() / 7));
}

}  // namespace
}  // namespace bittern::quant
