// Parsing hostile JSON, positions in errors, and the typed getters.
#include "base/json.h"

#include "unit/base/test_support.h"

namespace bittern {
namespace {

std::string parse_error(std::string_view text, const JsonOptions& options = {}) {
  return error_of(options.code, [&] { parse_json(text, "doc", options); });
}

TEST(ParseJson, ReadsDocuments) {
  const Json json = parse_json(R"({"a": [1, 2.5, "x"], "b": null})", "doc");
  EXPECT_EQ(json["a"][1], 2.5);
  const std::string bytes = "[true]";
  EXPECT_EQ(parse_json(std::as_bytes(std::span(bytes)), "doc")[0], true);
}

TEST(ParseJson, ErrorsNameDocumentAndPosition) {
  const std::string text = parse_error("{\n  \"a\": 1,\n  \"b\": oops\n}");
  EXPECT_TRUE(has(text, "doc: not valid JSON: line 3, column ")) << text;
  EXPECT_TRUE(has(parse_error(""), "line 1, column 1"));
  EXPECT_TRUE(has(parse_error("{\"a\": 1"), "line 1, column 8"));
  EXPECT_TRUE(has(parse_error("[1] x"), "line 1"));
  EXPECT_TRUE(has(parse_error("\"\xff\""), "line 1"));
  EXPECT_TRUE(has(parse_error("[1e999]"), "doc"));
}

TEST(ParseJson, DepthIsBounded) {
  const auto nested = [](size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_NO_THROW(parse_json(nested(128), "doc"));
  EXPECT_TRUE(has(parse_error(nested(129)), "nested more than 128 levels deep"));
  EXPECT_TRUE(has(parse_error(std::string(5000000, '[')), "nested"));
  std::string objects;
  for (int i = 0; i < 100000; ++i) objects += "{\"a\":";
  EXPECT_TRUE(has(parse_error(objects), "nested"));
  // Brackets inside strings, also after escaped quotes, do not count.
  EXPECT_NO_THROW(parse_json("[\"" + std::string(500, '[') + "\\\"" + std::string(500, '{') + "\"]", "doc"));
}

TEST(ParseJson, DuplicateKeysWhenRefused) {
  const JsonOptions strict{.refuse_duplicate_keys = true, .code = ErrorCode::invalid_checkpoint};
  EXPECT_EQ(parse_json(R"({"a": 1, "a": 2})", "doc")["a"], 2);
  EXPECT_TRUE(has(parse_error(R"({"a": 1, "b": {}, "a": 2})", strict), "the key 'a' occurs twice"));
  EXPECT_TRUE(has(parse_error(R"([{"x": {"k": 1, "k": 1}}])", strict), "'k'"));
  EXPECT_NO_THROW(parse_json(R"({"a": {"a": 1}, "b": [{"a": 1}, {"a": 2}]})", "doc", strict));
}

TEST(ReadJsonFile, NamesThePath) {
  const TempFolder folder;
  write_text(folder / "c.json", "{]");
  EXPECT_TRUE(has(error_of(ErrorCode::invalid_argument, [&] { read_json_file(folder / "c.json"); }), "c.json"));
  error_of(ErrorCode::not_found, [&] { read_json_file(folder / "none.json"); });
  write_text(folder / "c.json", "{\"x\": 3}");
  EXPECT_EQ(require<int>(read_json_file(folder / "c.json"), "x"), 3);
}

template <class T>
std::string require_error(const char* value) {
  const Json object = parse_json(std::string("{\"key\": ") + value + "}", "doc");
  return error_of(ErrorCode::invalid_argument, [&] { require<T>(object, "key", "config.json"); });
}

TEST(JsonGetters, GiveValues) {
  const Json object = parse_json(
      R"({"i": -3, "u": 18446744073709551615, "f": 2.5, "whole": 4.0, "b": true, "s": "x", "n": null, "l": [1, 2]})",
      "doc");
  EXPECT_EQ(require<int>(object, "i"), -3);
  EXPECT_EQ(require<uint64_t>(object, "u"), UINT64_MAX);
  EXPECT_EQ(require<float>(object, "f"), 2.5f);
  EXPECT_EQ(require<double>(object, "i"), -3.0);
  EXPECT_EQ(require<int>(object, "whole"), 4);
  EXPECT_EQ(require<unsigned>(object, "whole"), 4u);
  EXPECT_TRUE(require<bool>(object, "b"));
  EXPECT_EQ(require<std::string>(object, "s"), "x");
  EXPECT_EQ(require<std::vector<int>>(object, "l"), (std::vector<int>{1, 2}));
  EXPECT_EQ(get_or<int>(object, "n", 7), 7);
  EXPECT_EQ(get_or<int>(object, "missing", 8), 8);
  EXPECT_EQ(get_or<int>(object, "i", 8), -3);
  EXPECT_TRUE(require<Json>(object, "n").is_null());
}

TEST(JsonGetters, ErrorsNameKeyAndType) {
  EXPECT_TRUE(
      has(require_error<int>("\"abc\""), "config.json: 'key' must be an integer, but it is a string (\"abc\")"));
  EXPECT_TRUE(has(require_error<int>("2.5"), "must be an integer"));
  EXPECT_TRUE(has(require_error<int>("null"), "'key' is missing"));
  EXPECT_TRUE(has(require_error<bool>("1"), "must be true or false"));
  EXPECT_TRUE(has(require_error<float>("\"1\""), "must be a number"));
  EXPECT_TRUE(has(require_error<std::string>("[]"), "must be a string, but it is a list"));
  EXPECT_TRUE(has(require_error<std::vector<int>>("[1, \"x\"]"), "'1' must be an integer"));
  EXPECT_TRUE(has(require_error<std::vector<int>>("{}"), "must be a list"));
  error_of(ErrorCode::invalid_argument, [] { get_or<int>(parse_json(R"({"k": "x"})", "doc"), "k", 1); });
  EXPECT_TRUE(has(error_of(ErrorCode::invalid_argument, [] { get_or<int>(Json(3), "k", 1, "doc"); }), "an object"));
}

TEST(JsonGetters, IntegersAreRangeChecked) {
  EXPECT_TRUE(has(require_error<int>("2147483648"), "between -2147483648 and 2147483647"));
  EXPECT_TRUE(has(require_error<int>("-2147483649"), "between"));
  EXPECT_TRUE(has(require_error<int64_t>("18446744073709551615"), "between"));
  EXPECT_TRUE(has(require_error<uint32_t>("-1"), "between 0 and 4294967295"));
  EXPECT_TRUE(has(require_error<uint64_t>("-1.0"), "between 0"));
  EXPECT_TRUE(has(require_error<uint8_t>("256"), "between 0 and 255"));
  EXPECT_TRUE(has(require_error<int>("1e300"), "must be an integer"));
}

}  // namespace
}  // namespace bittern
