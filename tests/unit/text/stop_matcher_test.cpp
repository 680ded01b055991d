// StopMatcher against a direct search over the whole text, for every way of cutting it, and its own promises.
#include "text/stop_matcher.h"

#include <gtest/gtest.h>

#include <random>

#include "base/strings.h"
#include "support/expect_error.h"

namespace bittern::text {
namespace {

struct Outcome {
  std::string text;
  std::string stop;
  bool operator==(const Outcome&) const = default;
};

Outcome run(StopMatcher matcher, const std::vector<std::string>& pieces) {
  Outcome outcome;
  for (const std::string& piece : pieces) {
    const StopMatcher::Result result = matcher.push(piece);
    EXPECT_TRUE(utf8_is_valid(result.text));
    outcome.text += result.text;
    if (result.stopped && outcome.stop.empty()) outcome.stop = result.stop;
  }
  if (!matcher.stopped()) outcome.text += matcher.finish();
  return outcome;
}

/// The definition: the stop string that is complete first, of those that end together the longest.
Outcome search(const std::string& text, const std::vector<std::string>& stops, bool include) {
  for (size_t end = 1; end <= text.size(); ++end) {
    const std::string* best = nullptr;
    for (const std::string& stop : stops) {
      if (text.substr(0, end).ends_with(stop) && (best == nullptr || stop.size() > best->size())) best = &stop;
    }
    if (best != nullptr) return {text.substr(0, include ? end : end - best->size()), *best};
  }
  return {text, ""};
}

TEST(StopMatcher, HoldsBackOnlyWhatCouldBecomeAStop) {
  StopMatcher matcher({"\n\nUser:"});
  EXPECT_EQ(matcher.push("Hello\n").text, "Hello");
  EXPECT_EQ(matcher.push("\nUs").text, "");
  EXPECT_EQ(matcher.push("ing it").text, "\n\nUsing it");
  const StopMatcher::Result result = matcher.push(" ok\n\nUser: no");
  EXPECT_TRUE(result.stopped);
  EXPECT_EQ(result.text, " ok");
  EXPECT_EQ(result.stop, "\n\nUser:");
  EXPECT_EQ(matcher.push("more").text, "");
}

TEST(StopMatcher, WithoutStopsEverythingPasses) {
  StopMatcher matcher({});
  EXPECT_EQ(matcher.push("a世").text, "a世");
  EXPECT_EQ(matcher.finish(), "");
}

TEST(StopMatcher, NeverLetsGoOfHalfACharacter) {
  StopMatcher matcher({"\xE4\xB8\x96!"});  // 世!
  EXPECT_EQ(matcher.push("a\u4e16").text, "a");
  EXPECT_EQ(matcher.push("\u4e17").text, "\u4e16\u4e17");  // shares two bytes with the start of the stop string
  StopMatcher other({"\x96x"});
  EXPECT_EQ(other.push("\u4e16").text, "");
  EXPECT_EQ(other.finish(), "\u4e16");
}

TEST(StopMatcher, EmptyStopIsRefused) {
  EXPECT_ERROR(ErrorCode::invalid_argument, "stop string is empty", StopMatcher({"a", ""}));
}

TEST(StopMatcher, AgreesWithADirectSearchHoweverTheTextIsCut) {
  std::mt19937 random(5);
  const auto word = [&](size_t longest) {
    std::string text;
    for (size_t n = 1 + random() % longest; n > 0; --n) text += std::vector<std::string>{"a", "b", "é"}[random() % 3];
    return text;
  };
  int stopped = 0;
  for (int round = 0; round < 20000; ++round) {
    std::vector<std::string> stops;
    for (size_t n = random() % 4; n > 0; --n) stops.push_back(word(4));
    std::vector<std::string> pieces;
    std::string text;
    for (size_t n = random() % 8; n > 0; --n) text += pieces.emplace_back(word(3));
    const bool include = random() % 2 != 0;
    const Outcome expected = search(text, stops, include);
    stopped += expected.stop.empty() ? 0 : 1;
    ASSERT_EQ(run(StopMatcher(stops, include), pieces), expected) << text;
  }
  EXPECT_GT(stopped, 5000);
}

}  // namespace
}  // namespace bittern::text
