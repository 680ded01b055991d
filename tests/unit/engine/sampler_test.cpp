// Sampler: penalties by hand, the order of steps, masks, log-probabilities, and errors instead of guesses.
#include "engine/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <stdexcept>

#include "base/random.h"

namespace bittern::engine {
namespace {

constexpr std::int64_t kTokens = 8;

SamplingParams greedy() {
  SamplingParams params;
  params.temperature = 0;
  return params;
}

// A sampler over eight tokens; what the penalties do to the logits is read off greedy choices between two tokens.
struct SamplerTest : ::testing::Test {
  SamplingContext context() { return {params, 1, 0, tokens, prompt_length, end_ids, mask}; }
  std::int32_t token() { return sampler.sample(logits, context()).token; }

  // The value that token 0's logit must exceed to be chosen, found by bisection: the best adjusted logit of the others.
  float threshold() {
    float low = -100, high = 100;
    for (int i = 0; i < 60; ++i) {
      logits[0] = (low + high) / 2;
      (token() == 0 ? high : low) = logits[0];
    }
    return high;
  }

  Sampler sampler{kTokens};
  SamplingParams params = greedy();
  std::vector<float> logits = std::vector<float>(kTokens, -50.0f);
  std::vector<std::int32_t> tokens = {5};
  std::int64_t prompt_length = 1;
  std::vector<std::int32_t> end_ids;
  TokenMask* mask = nullptr;
};

class Only final : public TokenMask {
 public:
  explicit Only(std::set<std::int32_t> ids) : ids_(std::move(ids)) {}
  void restrict(std::vector<std::uint32_t>& allowed) override {
    for (std::int32_t t = 0; t < static_cast<std::int32_t>(allowed.size() * 32); ++t) {
      if (!ids_.contains(t)) allowed[static_cast<std::size_t>(t / 32)] &= ~(1u << (t % 32));
    }
  }
  void accept(std::int32_t token) override { accepted.push_back(token); }
  std::shared_ptr<TokenMask> clone() const override { return std::make_shared<Only>(ids_); }
  std::vector<std::int32_t> accepted;

 private:
  std::set<std::int32_t> ids_;
};

TEST_F(SamplerTest, GreedyTakesTheLowestOfEquals) {
  logits = {1, 3, 3, 2, 3, 0, 0, 0};
  EXPECT_EQ(token(), 1);
}

TEST_F(SamplerTest, TopKOfOneIsGreedyWhateverTheSeed) {
  logits = {1, 3, 3, 2, 3, 0, 0, 0};
  params.temperature = 1.0;
  params.top_k = 1;
  EXPECT_EQ(token(), 1);
}

TEST_F(SamplerTest, BiasIsAdded) {
  logits[3] = 2.0f;
  params.logit_bias = {{3, 1.5f}};
  EXPECT_NEAR(threshold(), 3.5f, 1e-5);
}

TEST_F(SamplerTest, RepetitionDividesPositiveAndMultipliesNegativeOncePerToken) {
  params.repetition_penalty = 2.0;
  tokens = {3, 3, 4};
  prompt_length = 2;
  logits[3] = 6.0f;
  EXPECT_NEAR(threshold(), 3.0f, 1e-5);  // in the prompt twice, penalized once
  logits[3] = -50.0f;
  logits[4] = -2.0f;
  EXPECT_NEAR(threshold(), -4.0f, 1e-5);  // in the output, negative
}

TEST_F(SamplerTest, PresenceAndFrequencyCountTheOutputAlone) {
  params.presence_penalty = 0.5;
  params.frequency_penalty = 0.25;
  tokens = {3, 3, 3, 4, 4, 4};
  prompt_length = 4;  // output: 4, 4
  logits[3] = 2.0f;
  EXPECT_NEAR(threshold(), 2.0f, 1e-5);  // only in the prompt
  logits[3] = -50.0f;
  logits[4] = 2.0f;
  EXPECT_NEAR(threshold(), 2.0f - 0.5f - 2 * 0.25f, 1e-5);
}

TEST_F(SamplerTest, NegativePenaltiesEncourage) {
  params.presence_penalty = -2.0;
  tokens = {1, 4};
  logits[4] = 2.0f;
  EXPECT_NEAR(threshold(), 4.0f, 1e-5);
}

TEST_F(SamplerTest, BiasComesBeforeRepetition) {
  params.repetition_penalty = 2.0;
  params.logit_bias = {{4, 3.0f}};
  tokens = {1, 4};
  logits[4] = 1.0f;
  EXPECT_NEAR(threshold(), (1.0f + 3.0f) / 2, 1e-5);
}

TEST_F(SamplerTest, RepetitionComesBeforePresence) {
  params.repetition_penalty = 2.0;
  params.presence_penalty = 1.0;
  tokens = {1, 4};
  logits[4] = 6.0f;
  EXPECT_NEAR(threshold(), 6.0f / 2 - 1.0f, 1e-5);
}

TEST_F(SamplerTest, PenaltiesLeaveNoTraceForTheNextCall) {
  logits = {0, 1, 2, 3, 4, 5, 6, 7};
  tokens = {7, 7, 6};
  params.repetition_penalty = 50.0;
  params.frequency_penalty = 2.0;
  EXPECT_EQ(token(), 5);
  params = greedy();
  EXPECT_EQ(token(), 7);
  EXPECT_EQ(logits[7], 7.0f);  // the caller's row is untouched
}

TEST_F(SamplerTest, MinTokensWithholdsTheEndTokens) {
  logits = {0, 1, 2, 9, 4, 8, 0, 0};
  end_ids = {3, 5};
  params.min_tokens = 2;
  EXPECT_EQ(token(), 4);
  tokens = {1, 4};
  EXPECT_EQ(token(), 4);
  tokens = {1, 4, 4};
  EXPECT_EQ(token(), 3);
}

TEST_F(SamplerTest, MaskRestrictsAndHearsTheChoice) {
  logits = {0, 1, 2, 9, 4, 8, 0, 0};
  Only only({2, 4});
  mask = &only;
  EXPECT_EQ(token(), 4);
  EXPECT_EQ(only.accepted, std::vector<std::int32_t>{4});
  params.temperature = 5.0;
  std::set<std::int32_t> seen;
  for (std::int32_t i = 0; i < 50; ++i) {
    tokens.push_back(i % 8);
    seen.insert(token());
  }
  EXPECT_EQ(seen, (std::set<std::int32_t>{2, 4}));
  EXPECT_EQ(only.accepted.size(), 51u);
}

TEST_F(SamplerTest, AMaskThatLeavesNothingIsAnError) {
  Only only({});
  mask = &only;
  const SampledToken result = sampler.sample(logits, context());
  EXPECT_EQ(result.token, -1);
  EXPECT_NE(result.error.find("no token is allowed"), std::string::npos) << result.error;
  EXPECT_TRUE(only.accepted.empty());
}

TEST_F(SamplerTest, AMaskThatThrowsPassesThrough) {
  struct Broken final : TokenMask {
    void restrict(std::vector<std::uint32_t>&) override { throw std::runtime_error("grammar is stuck"); }
    void accept(std::int32_t) override {}
    std::shared_ptr<TokenMask> clone() const override { return std::make_shared<Broken>(); }
  } broken;
  mask = &broken;
  EXPECT_THROW(sampler.sample(logits, context()), std::runtime_error);
}

TEST_F(SamplerTest, NanIsAnErrorNotAToken) {
  logits[6] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_NE(sampler.sample(logits, context()).error.find("NaN"), std::string::npos);
  EXPECT_NE(Sampler::score(logits, 1, 0).error.find("NaN"), std::string::npos);
}

TEST_F(SamplerTest, LogprobsAreTheModelsOwnWhateverWasDoneToDraw) {
  logits = {1, 2, 3, 4, 5, 6, 7, 8};
  double sum = 0;
  for (float x : logits) sum += std::exp(static_cast<double>(x));
  params.logprobs = 3;
  params.logit_bias = {{2, 50.0f}};
  params.temperature = 0.1;
  params.top_k = 2;
  const SampledToken result = sampler.sample(logits, context());
  EXPECT_EQ(result.token, 2);
  EXPECT_NEAR(result.logprob, 3 - std::log(sum), 1e-6);
  ASSERT_EQ(result.top.size(), 3u);
  EXPECT_EQ(result.top[0].token, 7);
  EXPECT_NEAR(result.top[0].logprob, 8 - std::log(sum), 1e-6);
  EXPECT_EQ(result.top[2].token, 5);
}

TEST_F(SamplerTest, LogprobsOfZeroAlternativesGiveTheChosenAlone) {
  logits = {1, 2, 3, 4, 5, 6, 7, 8};
  params.logprobs = 0;
  const SampledToken result = sampler.sample(logits, context());
  EXPECT_LT(result.logprob, 0);
  EXPECT_TRUE(result.top.empty());
}

TEST_F(SamplerTest, ScoreGivesTheGivenToken) {
  logits = {1, 2, 3, 4, 5, 6, 7, 8};
  double sum = 0;
  for (float x : logits) sum += std::exp(static_cast<double>(x));
  const SampledToken result = Sampler::score(logits, 1, 2);
  EXPECT_NEAR(result.logprob, 2 - std::log(sum), 1e-6);
  ASSERT_EQ(result.top.size(), 2u);
  EXPECT_EQ(result.top[1].token, 6);
}

TEST(UniformAt, DependsOnSeedSampleAndPositionAlone) {
  EXPECT_EQ(uniform_at(1, 2, 3), uniform_at(1, 2, 3));
  std::set<double> seen;
  for (std::uint64_t seed : {0u, 1u, 2u}) {
    for (int sample : {0, 1, 2}) {
      for (std::int64_t position = 0; position < 100; ++position) seen.insert(uniform_at(seed, sample, position));
    }
  }
  EXPECT_EQ(seen.size(), 900u);
  EXPECT_GE(*seen.begin(), 0.0);
  EXPECT_LT(*seen.rbegin(), 1.0);
}

TEST(UniformAt, IsUniformOverPositionsOfOneSeed) {
  constexpr int kDraws = 100000, kBins = 50;
  std::vector<int> count(kBins);
  for (std::int64_t i = 0; i < kDraws; ++i) ++count[static_cast<std::size_t>(uniform_at(99, 0, i) * kBins)];
  double chi = 0;
  for (int c : count) chi += std::pow(c - kDraws / kBins, 2) / (kDraws / kBins);
  EXPECT_LT(chi, 49 + 4 * std::sqrt(2.0 * 49));
  EXPECT_GT(chi, 49 - 4 * std::sqrt(2.0 * 49));
}

// A draw through the whole sampler: temperature scaled by hand, chi-square over seeds.
TEST_F(SamplerTest, DrawsFollowTheSoftmaxOfPenalizedLogits) {
  logits = {0, 0.5f, 1, 1.5f, 2, 2.5f, 3, 3.5f};
  params.temperature = 2.0;
  params.presence_penalty = 2.0;
  tokens = {1, 7};
  std::vector<double> expected;
  for (std::size_t t = 0; t < 8; ++t) expected.push_back(std::exp((logits[t] - (t == 7 ? 2.0 : 0.0)) / 2.0));
  double mass = 0;
  for (double e : expected) mass += e;
  constexpr int kDraws = 100000;
  std::vector<int> count(8);
  for (int i = 0; i < kDraws; ++i) {
    SamplingContext c = context();
    c.seed = static_cast<std::uint64_t>(i);
    ++count[static_cast<std::size_t>(sampler.sample(logits, c).token)];
  }
  double chi = 0;
  for (std::size_t t = 0; t < 8; ++t) {
    const double e = expected[t] / mass * kDraws;
    chi += (count[t] - e) * (count[t] - e) / e;
  }
  EXPECT_LT(chi, 7 + 4 * std::sqrt(14.0));
}

}  // namespace
}  // namespace bittern::engine
