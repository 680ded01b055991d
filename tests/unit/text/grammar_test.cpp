// Grammars over a tokenizer of single bytes, where every mask can be told by hand, and over the embedded model's own.
#include "text/grammar.h"

#include <gtest/gtest.h>

#include <set>
#include <thread>

#include "base/json.h"
#include "base/random.h"
#include "support/expect_error.h"
#include "text_support.h"

namespace bittern::text::testing {
namespace {

constexpr std::int32_t kEnd = 257;

const Tokenizer& byte_tokenizer() {
  static const Tokenizer tokenizer("bytes", reader({{"tokenizer.json", byte_tokenizer_json()}}));
  return tokenizer;
}

std::shared_ptr<const TokenTrie> byte_trie() {
  static const auto trie = std::make_shared<const TokenTrie>(byte_tokenizer(), std::vector<std::int32_t>{kEnd});
  return trie;
}

std::shared_ptr<const Grammar> compile(GrammarKind kind, std::string_view source) {
  return Grammar::compile(byte_trie(), kind, source);
}

std::set<std::int32_t> allowed_by(GrammarMatcher& matcher) {
  std::vector<std::uint32_t> words;
  matcher.mask(words);
  std::set<std::int32_t> ids;
  for (std::int32_t t = 0; t < static_cast<std::int32_t>(words.size() * 32); ++t) {
    if (words[static_cast<std::size_t>(t / 32)] >> (t % 32) & 1) ids.insert(t);
  }
  return ids;
}

std::set<std::int32_t> bytes_of(std::string_view text) { return {text.begin(), text.end()}; }

void feed(GrammarMatcher& matcher, std::string_view text) {
  for (const char c : text) matcher.accept(static_cast<unsigned char>(c));
}

TEST(Grammar, AChoiceLeavesWhatIsStillPossible) {
  GrammarMatcher matcher(compile(GrammarKind::choice, R"(["yes", "yet", "no \"q\""])"));
  EXPECT_EQ(allowed_by(matcher), bytes_of("yn"));
  feed(matcher, "ye");
  EXPECT_EQ(allowed_by(matcher), bytes_of("st"));
  EXPECT_FALSE(matcher.is_accepting());
  feed(matcher, "t");
  EXPECT_EQ(allowed_by(matcher), std::set<std::int32_t>{kEnd});
  EXPECT_TRUE(matcher.is_stopped());
}

TEST(Grammar, AChoiceThatBeginsAnotherMayEndOrGoOn) {
  GrammarMatcher matcher(compile(GrammarKind::choice, R"(["a", "ab"])"));
  feed(matcher, "a");
  EXPECT_EQ(allowed_by(matcher), (std::set<std::int32_t>{'b', kEnd}));
  EXPECT_TRUE(matcher.is_accepting());
  EXPECT_FALSE(matcher.is_stopped());
}

TEST(Grammar, RegexMatchesTheWholeText) {
  for (const char* regex : {"[ab]c/", "^[ab]c/$"}) {
    GrammarMatcher matcher(compile(GrammarKind::regex, regex));
    EXPECT_EQ(allowed_by(matcher), bytes_of("ab")) << regex;
    feed(matcher, "bc/");
    EXPECT_EQ(allowed_by(matcher), std::set<std::int32_t>{kEnd}) << regex;
  }
}

TEST(Grammar, LarkKnowsRulesAndSpecialTokens) {
  GrammarMatcher matcher(compile(GrammarKind::lark, "start: pair <|im_start|>\npair: \"(\" pair \")\" | \"x\"\n"));
  EXPECT_EQ(allowed_by(matcher), bytes_of("(x"));
  feed(matcher, "((x))");
  EXPECT_EQ(allowed_by(matcher), std::set<std::int32_t>{256});
}

TEST(Grammar, AnObjectIsAnyObject) {
  GrammarMatcher matcher(compile(GrammarKind::json_object, ""));
  EXPECT_EQ(allowed_by(matcher), bytes_of("{"));
  feed(matcher, R"({"a": [1, null]})");
  EXPECT_EQ(allowed_by(matcher), std::set<std::int32_t>{kEnd});
}

TEST(Grammar, SpaceBetweenPartsIsBounded) {
  GrammarMatcher matcher(compile(GrammarKind::json_schema, R"({"type": "array", "items": {"type": "null"}})"));
  feed(matcher, "[");
  matcher.accept('\n');
  int spaces = 0;
  for (; allowed_by(matcher).contains(' '); ++spaces) matcher.accept(' ');
  EXPECT_EQ(spaces, 16);
  EXPECT_FALSE(allowed_by(matcher).contains('\n'));
  EXPECT_TRUE(allowed_by(matcher).contains('n'));
}

TEST(Grammar, RollbackTakesTokensBack) {
  GrammarMatcher matcher(compile(GrammarKind::choice, R"(["yes", "no"])"));
  feed(matcher, "ye");
  matcher.rollback(2);
  EXPECT_EQ(allowed_by(matcher), bytes_of("yn"));
}

TEST(Grammar, ACopyGoesItsOwnWay) {
  GrammarMatcher first(compile(GrammarKind::choice, R"(["yes", "no"])"));
  feed(first, "y");
  GrammarMatcher second(first);
  feed(second, "es");
  EXPECT_EQ(allowed_by(first), bytes_of("e"));
  EXPECT_TRUE(second.is_stopped());
}

TEST(Grammar, WhatCannotBeHonouredIsNamed) {
  const auto schema = [](const char* source) { compile(GrammarKind::json_schema, source); };
  EXPECT_ERROR(ErrorCode::invalid_argument, "uniqueItems", schema(R"({"type": "array", "uniqueItems": true})"));
  EXPECT_ERROR(ErrorCode::invalid_argument, "dependentRequired",
               schema(R"({"type": "object", "dependentRequired": {"a": ["b"]}})"));
  EXPECT_ERROR(ErrorCode::invalid_argument, "not", schema(R"({"properties": {"a": {"not": {"type": "string"}}}})"));
  EXPECT_ERROR(ErrorCode::invalid_argument, "format", schema(R"({"type": "string", "format": "colour"})"));
  EXPECT_ERROR(ErrorCode::invalid_argument, "json_schema", schema("{"));
  EXPECT_ERROR(ErrorCode::invalid_argument, "json_schema", schema("3"));
  EXPECT_ERROR(ErrorCode::invalid_argument, "#/$defs/b", schema(R"({"$ref": "#/$defs/b", "$defs": {}})"));
  EXPECT_ERROR(ErrorCode::invalid_argument, "'a'",
               schema(R"({"type": "object", "properties": {"a": false}, "required": ["a"]})"));
  EXPECT_ERROR(ErrorCode::invalid_argument, "regex", compile(GrammarKind::regex, "(a"));
  EXPECT_ERROR(ErrorCode::invalid_argument, "lark", compile(GrammarKind::lark, "start: missing"));
  EXPECT_ERROR(ErrorCode::invalid_argument, "choice", compile(GrammarKind::choice, "[]"));
}

TEST(Grammar, TooMuchIsRefused) {
  EXPECT_ERROR(ErrorCode::invalid_argument, "bytes", compile(GrammarKind::regex, std::string(600 * 1024, 'a')));
  std::string deep;
  for (int i = 0; i < 5000; ++i) deep += R"({"properties":{"a":)";
  EXPECT_ERROR(ErrorCode::invalid_argument, "json_schema", compile(GrammarKind::json_schema, deep));
}

TEST(Grammar, ATokenThatIsNotAllowedIsAnError) {
  GrammarMatcher matcher(compile(GrammarKind::choice, R"(["yes"])"));
  EXPECT_ERROR(ErrorCode::invalid_argument, "grammar", matcher.accept('n'));
}

TEST(Grammar, AModelWithoutEndTokensCannotBeGuided) {
  EXPECT_ERROR(ErrorCode::unsupported, "end tokens", TokenTrie(byte_tokenizer(), {}));
}

// A walk that takes any allowed token at random, and in doubt the end, must leave what the schema describes.
TEST(Grammar, RandomWalksThroughASchemaAreValid) {
  const Tokenizer tokenizer("mini", folder_reader(source_path("models/mini")));
  const auto trie = std::make_shared<const TokenTrie>(tokenizer, tokenizer.special_ids().stop);
  const auto grammar = Grammar::compile(trie, GrammarKind::json_schema, R"({
    "type": "object", "additionalProperties": false, "required": ["name", "age", "tags"],
    "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "minimum": 3, "maximum": 99},
                   "tags": {"type": "array", "maxItems": 3, "items": {"enum": ["red", "green"]}}}})");
  Random random(7);
  for (int walk = 0; walk < 60; ++walk) {
    GrammarMatcher matcher(grammar);
    std::vector<std::int32_t> tokens;
    while (!matcher.is_stopped()) {
      const std::set<std::int32_t> ids = allowed_by(matcher);
      ASSERT_FALSE(ids.empty());
      ASSERT_LT(tokens.size(), 500u);
      tokens.push_back(*std::next(ids.begin(), random.next_below(static_cast<std::uint32_t>(ids.size()))));
      matcher.accept(tokens.back());
    }
    const Json value = Json::parse(tokenizer.decode(tokens));
    ASSERT_LE(value.at("name").get<std::string>().size(), 48u);
    ASSERT_GE(value.at("age").get<int>(), 3);
    ASSERT_LE(value.at("age").get<int>(), 99);
    ASSERT_LE(value.at("tags").size(), 3u);
    ASSERT_EQ(value.size(), 3u);
  }
}

TEST(Grammar, ThreadsMayCompileAndFollowAtOnce) {
  std::vector<std::thread> threads;
  const auto shared = compile(GrammarKind::json_object, "");
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < 10; ++round) {
        GrammarMatcher own(compile(GrammarKind::choice, "[\"text " + std::to_string(i) + "\"]"));
        feed(own, "text " + std::to_string(i));
        EXPECT_TRUE(own.is_stopped());
        GrammarMatcher one(shared);
        feed(one, R"({"k": 1})");
        EXPECT_TRUE(one.is_stopped());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace bittern::text::testing
