// Prompt lookup: what is guessed, and that guessing changes no answer: not the tokens, log-probabilities, ends, masks
// or penalties, whatever runs beside it, and that it saves steps where the output repeats.
#include "engine/prompt_lookup.h"

#include <gtest/gtest.h>

#include "fake_model.h"

namespace bittern::engine {
namespace {

using testing::Answer;
using testing::Harness;
using testing::kVocab;
using testing::make_request;
using testing::read_arrived;

using Tokens = std::vector<std::int32_t>;

Tokens guess(const Tokens& tokens, int most) {
  PromptLookup lookup;
  Tokens draft;
  lookup.propose(tokens, most, draft);
  return draft;
}

TEST(PromptLookup, TakesWhatFollowedTheSameTokens) {
  EXPECT_EQ(guess({1, 2, 3, 4, 5, 9, 1, 2}, 3), (Tokens{3, 4, 5}));
  EXPECT_EQ(guess({1, 2, 3, 4, 5, 9, 1, 2}, 1), (Tokens{3}));
}

TEST(PromptLookup, PrefersTheLongestMatchAndThenTheLatest) {
  EXPECT_EQ(guess({7, 1, 2, 50, 1, 2, 60, 7, 1, 2}, 1), (Tokens{50}));
  EXPECT_EQ(guess({1, 2, 50, 1, 2, 60, 1, 2}, 1), (Tokens{60}));
}

TEST(PromptLookup, GuessesNothingWithoutARecurrenceOfTwoTokens) {
  EXPECT_EQ(guess({1, 2, 3, 4}, 4), Tokens{});
  EXPECT_EQ(guess({2, 3, 2}, 4), Tokens{});
  EXPECT_EQ(guess({5}, 4), Tokens{});
}

TEST(PromptLookup, GoesRoundInAShortPeriod) { EXPECT_EQ(guess({8, 9, 8, 9, 8, 9}, 4), (Tokens{8, 9, 8, 9})); }

TEST(PromptLookup, GuessesMoreAfterSuccessAndPausesAfterFailure) {
  const Tokens tokens = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 1, 2};
  PromptLookup lookup;
  Tokens draft;
  lookup.propose(tokens, 8, draft);
  EXPECT_EQ(draft.size(), 4u);
  lookup.learn(4, 4);
  lookup.propose(tokens, 8, draft);
  EXPECT_EQ(draft.size(), 8u);
  lookup.learn(8, 0);
  lookup.propose(tokens, 8, draft);
  EXPECT_TRUE(draft.empty());
  lookup.propose(tokens, 8, draft);
  EXPECT_EQ(draft.size(), 2u);
}

// --- in the engine -----------------------------------------------------------------------------------------------

SchedulerLimits limits_with(int max_draft) {
  SchedulerLimits limits;
  limits.max_sequences = 4;
  limits.max_step_tokens = 64;
  limits.max_logit_rows = 24;
  limits.max_draft = max_draft;
  return limits;
}

struct Outcome {
  std::vector<std::vector<Answer>> answers;  // by request
  EngineStats stats;
};

Outcome run(const std::vector<Request>& requests, int max_draft, int memory, std::int64_t blocks = 64) {
  Harness harness(blocks, 4, limits_with(max_draft), 120);
  harness.model.memory = memory;
  std::vector<std::shared_ptr<RequestChannel>> channels;
  for (const Request& request : requests) channels.push_back(harness.submit(request));
  harness.run_until_idle();
  Outcome outcome;
  for (const auto& channel : channels) outcome.answers.push_back(read_arrived(*channel));
  outcome.stats = harness.core.stats();
  return outcome;
}

Request repeating_request(std::uint64_t seed) {
  Request request = make_request(6, 80, seed);
  request.sampling.temperature = 0;
  request.sampling.ignore_eos = true;
  return request;
}

TEST(Speculation, SavesStepsWhereOutputRepeatsAndChangesNothing) {
  const Outcome plain = run({repeating_request(1)}, 0, 1), guessed = run({repeating_request(1)}, 8, 1);
  EXPECT_EQ(guessed.answers, plain.answers);
  EXPECT_LT(guessed.stats.steps * 2, plain.stats.steps);
  EXPECT_GT(guessed.stats.accepted_tokens, 40);
  EXPECT_GE(guessed.stats.drafted_tokens, guessed.stats.accepted_tokens);
  EXPECT_EQ(plain.stats.drafted_tokens, 0);
  EXPECT_EQ(guessed.stats.generated_tokens, plain.stats.generated_tokens);
}

// Every kind of request, with a memory short enough for guesses to be right now and then.
std::vector<Request> varied_requests(std::uint64_t seed) {
  std::vector<Request> requests;
  for (std::uint64_t i = 0; i < 8; ++i) {
    Request r = make_request(static_cast<int>(3 + 5 * i), 60, seed * 100 + i);
    SamplingParams& p = r.sampling;
    p.temperature = i % 2 == 0 ? 0.0 : 0.3;
    p.logprobs = i % 3 == 0 ? 2 : -1;
    p.prompt_logprobs = i % 4 == 1 ? 1 : -1;
    p.repetition_penalty = i == 3 ? 1.2 : 1.0;
    p.frequency_penalty = i == 4 ? 0.5 : 0.0;
    p.min_tokens = i == 5 ? 30 : 0;
    p.stop_ids = i == 6 ? Tokens{11, 12, 13} : Tokens{};
    p.ignore_eos = i % 2 == 1;
    r.n = i == 7 ? 3 : 1;
    requests.push_back(std::move(r));
  }
  return requests;
}

TEST(Speculation, GivesTheAnswersOfPlainDecoding) {
  std::int64_t accepted = 0;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    for (const int memory : {1, 2}) {
      const Outcome plain = run(varied_requests(seed), 0, memory), guessed = run(varied_requests(seed), 6, memory);
      ASSERT_EQ(guessed.answers, plain.answers) << "seed " << seed;
      accepted += guessed.stats.accepted_tokens;
    }
  }
  EXPECT_GT(accepted, 1000);
}

TEST(Speculation, GivesTheAnswersOfPlainDecodingWhenBlocksAreScarce) {
  std::int64_t preemptions = 0;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const Outcome plain = run(varied_requests(seed), 0, 1), guessed = run(varied_requests(seed), 8, 1, 32);
    ASSERT_EQ(guessed.answers, plain.answers) << "seed " << seed;
    preemptions += guessed.stats.preemptions;
  }
  EXPECT_GT(preemptions, 0);
}

/// Allows the tokens of one residue after another, and checks that it hears of every token once, in order.
class CyclingMask final : public TokenMask {
 public:
  void restrict(std::vector<std::uint32_t>& allowed) override {
    for (std::size_t t = 0; t < static_cast<std::size_t>(kVocab); ++t) {
      if (t % 4 != heard.size() % 4) allowed[t / 32] &= ~(1u << (t % 32));
    }
  }
  void accept(std::int32_t token) override { heard.push_back(token); }
  std::shared_ptr<TokenMask> clone() const override { return std::make_shared<CyclingMask>(); }
  Tokens heard;
};

TEST(Speculation, MasksHearOfTheTokensThatWereDrawnAlone) {
  const auto mask = std::make_shared<CyclingMask>(), other = std::make_shared<CyclingMask>();
  Request request = repeating_request(5);
  request.mask = mask;
  const Outcome guessed = run({request}, 8, 1);
  request.mask = other;
  const Outcome plain = run({request}, 0, 1);
  EXPECT_EQ(guessed.answers, plain.answers);
  EXPECT_EQ(mask->heard, guessed.answers[0][0].tokens);
  EXPECT_GT(guessed.stats.accepted_tokens, 0);
}

TEST(Speculation, StepsAsideWhileAPromptIsRun) {
  Harness harness(64, 4, limits_with(8), 120);
  harness.model.memory = 1;
  const auto first = harness.submit(repeating_request(1));
  for (int i = 0; i < 40; ++i) harness.step();
  Request late = make_request(100, 4, 9);
  const auto second = harness.submit(late);
  const std::int64_t before = harness.core.stats().drafted_tokens;
  harness.step();
  EXPECT_EQ(harness.core.stats().drafted_tokens, before);
  harness.run_until_idle();
  read_arrived(*first);
  read_arrived(*second);
}

// Beyond the threshold a token's rope length is its own, so nothing can be run ahead.
TEST(Speculation, DoesNotGuessWhereTheRopeFollowsTheLength) {
  SchedulerLimits limits = limits_with(8);
  limits.rope_threshold = 20;
  Harness harness(64, 4, limits, 120);
  harness.model.memory = 1;
  harness.model.length_dependent = true;
  const auto channel = harness.submit(repeating_request(1));
  harness.run_until_idle();
  const std::vector<Answer> guessed = read_arrived(*channel);
  limits.max_draft = 0;
  Harness alone(64, 4, limits, 120);
  alone.model.memory = 1;
  alone.model.length_dependent = true;
  const auto plain = alone.submit(repeating_request(1));
  alone.run_until_idle();
  EXPECT_EQ(guessed, read_arrived(*plain));
}

}  // namespace
}  // namespace bittern::engine
