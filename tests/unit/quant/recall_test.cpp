// The text of a recall prompt: how long, where the needle stands, what differs; and what counts as recalled.
#include "quant/recall.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "base/strings.h"
#include "support/expect_error.h"

namespace bittern::quant {
namespace {

// A token a word, as no tokenizer does but a test may.
std::int64_t words(const std::string& text) {
  std::int64_t count = 0;
  for (const std::string_view word : split(text, ' ')) count += word.empty() ? 0 : 1;
  return count;
}

std::int64_t count_words(const RecallText& text) {
  return words(text.context) + words(text.question) + words(text.reply) + words(text.value);
}

RecallText make(const RecallPlace& place, std::uint64_t seed = 1) { return make_recall_text(place, seed, count_words); }

std::string needle(const RecallText& text) {
  const std::string first = text.reply.substr(text.reply.rfind(' ') + 1);
  return first + text.value;
}

TEST(RecallText, IsAsLongAsItMayBe) {
  for (const std::int64_t length : {60, 200, 1000}) {
    const RecallText text = make({length, 0.5, 0});
    EXPECT_LE(count_words(text), length);
    EXPECT_GT(count_words(text), length - 10);  // no sentence has ten words
  }
}

TEST(RecallText, TheNeedleStandsAtItsDepthOnce) {
  for (const double depth : {0.0, 0.25, 0.5, 0.75, 1.0}) {
    for (int sample = 0; sample < 5; ++sample) {
      const RecallText text = make({500, depth, sample});
      const std::string name = needle(text);
      const auto at = text.context.find(name);
      ASSERT_NE(at, std::string::npos);
      EXPECT_EQ(text.context.find(name, at + 1), std::string::npos);
      const double place = static_cast<double>(at) / static_cast<double>(text.context.size());
      EXPECT_NEAR(place, depth, 0.06) << text.context;
      // Nobody else has the first name, or the answer would not be one.
      const std::string first = name.substr(0, name.find(' ') + 1);
      EXPECT_EQ(text.context.find(first), at);
      EXPECT_EQ(text.context.find(first, at + 1), std::string::npos);
    }
  }
}

TEST(RecallText, AtTheEndsNothingStandsBeyondTheNeedle) {
  for (int sample = 0; sample < 20; ++sample) {
    const RecallText first = make({300, 0, sample}), last = make({300, 1, sample});
    EXPECT_LT(first.context.find(needle(first)), 40u);  // in the first sentence after "Read this text."
    EXPECT_GT(last.context.find(needle(last)) + 40, last.context.size());
  }
}

TEST(RecallText, IsAFunctionOfSeedAndPlace) {
  std::set<std::string> contexts;
  for (const std::uint64_t seed : {1, 2}) {
    for (const double depth : {0.0, 0.5}) {
      for (int sample = 0; sample < 3; ++sample) {
        const RecallText text = make({200, depth, sample}, seed), again = make({200, depth, sample}, seed);
        EXPECT_EQ(text.context, again.context);
        EXPECT_EQ(text.value, again.value);
        contexts.insert(text.context);
      }
    }
  }
  EXPECT_EQ(contexts.size(), 12u);
}

TEST(RecallText, ALengthThatHoldsNoTextIsRefused) {
  EXPECT_ERROR(ErrorCode::invalid_argument, "length of 20", make({20, 0.5, 0}));
}

TEST(RecallPlaces, AreTheGrid) {
  const auto places = recall_places({.lengths = {100, 200}, .depths = {0, 1}, .samples = 3});
  ASSERT_EQ(places.size(), 12u);
  EXPECT_EQ(places[0].length, 100);
  EXPECT_EQ(places[5].depth, 1);
  EXPECT_EQ(places[5].sample, 2);
  EXPECT_EQ(places[6].length, 200);
  constexpr auto kInvalid = ErrorCode::invalid_argument;
  EXPECT_ERROR(kInvalid, "length", recall_places({.lengths = {}}));
  EXPECT_ERROR(kInvalid, "depth", recall_places({.lengths = {100}, .depths = {}}));
  EXPECT_ERROR(kInvalid, "depth", recall_places({.lengths = {100}, .depths = {1.5}}));
  EXPECT_ERROR(kInvalid, "sample", recall_places({.lengths = {100}, .samples = 0}));
}

// Finds `next[i]` most likely after i tokens; remembers what it was asked.
class Oracle : public LogitSource {
 public:
  explicit Oracle(std::vector<std::int32_t> next) : next_(std::move(next)) {}
  void run(std::span<const std::int32_t> tokens, const std::vector<bool>& want, const Sink& sink) override {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      if (!want[i]) continue;
      asked.push_back(i);
      std::vector<float> logits(4, 0.0f);
      logits[static_cast<std::size_t>(next_[i])] = std::log(5.0f);  // 5/8; the others 1/8
      sink(static_cast<std::int64_t>(i), logits);
    }
  }
  std::int64_t vocab() const override { return 4; }
  std::int64_t max_context() const override { return 6; }
  std::vector<std::size_t> asked;

 private:
  std::vector<std::int32_t> next_;
};

TEST(AskRecall, EveryTokenOfTheValueMustBeTheLikeliest) {
  RecallPrompt prompt;
  prompt.ids = {0, 1, 2, 3, 1};
  prompt.scored = {3, 4};
  Oracle right({9, 9, 3, 1, 9});
  const RecallAnswer answer = ask_recall(right, prompt);
  EXPECT_TRUE(answer.recalled);
  EXPECT_EQ(answer.tokens, 2);
  EXPECT_NEAR(answer.nll, -2 * std::log(5.0 / 8), 1e-6);
  EXPECT_EQ(right.asked, (std::vector<std::size_t>{2, 3}));
  Oracle half({9, 9, 3, 2, 9});
  const RecallAnswer wrong = ask_recall(half, prompt);
  EXPECT_FALSE(wrong.recalled);
  EXPECT_NEAR(wrong.nll, -std::log(5.0 / 8) - std::log(1.0 / 8), 1e-6);
}

TEST(AskRecall, APromptThatDoesNotFitIsRefused) {
  RecallPrompt prompt;
  prompt.ids = {0, 1, 2, 3, 1, 2, 3};
  prompt.scored = {6};
  Oracle oracle({0, 0, 0, 0, 0, 0, 0});
  EXPECT_ERROR(ErrorCode::invalid_argument, "7 tokens does not fit", ask_recall(oracle, prompt));
}

}  // namespace
}  // namespace bittern::quant
