// Scheduler: what each step does, decided by hand.
#include "engine/scheduler.h"

#include <gtest/gtest.h>

#include <deque>

namespace bittern::engine {
namespace {

// A scheduler driven as the engine drives it: run the plan, then give every sampling chunk one more token.
struct SchedulerTest : ::testing::Test {
  void make(std::int64_t blocks, int block_tokens, SchedulerLimits limits) {
    cache.emplace(blocks, block_tokens);
    scheduler.emplace(*cache, limits);
  }

  Sequence& add(std::int64_t prompt, std::int64_t output, int priority = 0) {
    return add_to(groups.emplace_back(), prompt, output, priority, next_arrival++, 0);
  }

  Sequence& add_to(SampleGroup& group, std::int64_t prompt, std::int64_t output, int priority, std::int64_t arrival,
                   int sample) {
    Sequence& s = sequences.emplace_back();
    s.arrival = arrival;
    s.priority = priority;
    s.sample = sample;
    s.tokens.assign(static_cast<std::size_t>(prompt), 1);
    s.prompt_length = prompt;
    s.limit = prompt + output;
    s.group = &group;
    scheduler->add(s);
    return s;
  }

  // One step; finished sequences are removed. Returns the plan as it was.
  Plan step() {
    const Plan plan = scheduler->schedule();
    for (const Chunk& chunk : plan.chunks) {
      scheduler->advance(chunk);
      chunk.sequence->group->scored += chunk.scored;
      if (!chunk.samples) continue;
      chunk.sequence->tokens.push_back(2);
      if (chunk.sequence->length() == chunk.sequence->limit) scheduler->remove(*chunk.sequence);
    }
    scheduler->check_integrity();
    return plan;
  }

  static int tokens_of(const Plan& plan, const Sequence& s) {
    for (const Chunk& chunk : plan.chunks) {
      if (chunk.sequence == &s) return chunk.tokens;
    }
    return 0;
  }

  std::optional<CacheManager> cache;
  std::optional<Scheduler> scheduler;
  std::deque<SampleGroup> groups;
  std::deque<Sequence> sequences;
  std::int64_t next_arrival = 0;
};

SchedulerLimits limits_of(int sequences, int step_tokens, int extra_rows = 1) {
  SchedulerLimits limits;
  limits.max_sequences = sequences;
  limits.max_step_tokens = step_tokens;
  limits.max_logit_rows = sequences + extra_rows;
  return limits;
}

TEST_F(SchedulerTest, AnEmptySchedulerPlansNothing) {
  make(4, 16, limits_of(2, 8));
  EXPECT_TRUE(step().chunks.empty());
  EXPECT_TRUE(scheduler->idle());
}

TEST_F(SchedulerTest, ALongPromptRunsInChunksAndSamplesAtItsEnd) {
  make(4, 16, limits_of(2, 8));
  Sequence& s = add(20, 5);
  for (int expected : {8, 8, 4}) {
    const Plan plan = step();
    ASSERT_EQ(plan.chunks.size(), 1u);
    EXPECT_EQ(plan.chunks[0].tokens, expected);
    EXPECT_EQ(plan.chunks[0].samples, expected == 4);
    EXPECT_EQ(plan.rows, expected == 4 ? 1 : 0);
  }
  EXPECT_EQ(s.length(), 21);
  EXPECT_EQ(tokens_of(step(), s), 1);
}

TEST_F(SchedulerTest, DecodingGoesOnBesideAPrompt) {
  make(16, 16, limits_of(4, 8));
  Sequence& a = add(2, 20);
  step();
  Sequence& b = add(30, 5);
  for (int i = 0; i < 4; ++i) {
    const Plan plan = step();
    EXPECT_EQ(tokens_of(plan, a), 1);
    EXPECT_EQ(tokens_of(plan, b), 7);
    EXPECT_EQ(plan.tokens, 8);
  }
  EXPECT_EQ(tokens_of(step(), b), 2);
}

TEST_F(SchedulerTest, ShortPromptsShareAStep) {
  make(16, 16, limits_of(4, 8));
  Sequence& a = add(3, 5);
  Sequence& b = add(3, 5);
  Sequence& c = add(3, 5);
  const Plan plan = step();
  EXPECT_EQ(tokens_of(plan, a), 3);
  EXPECT_EQ(tokens_of(plan, b), 3);
  EXPECT_EQ(tokens_of(plan, c), 2);
}

TEST_F(SchedulerTest, NoMoreSequencesThanAllowed) {
  make(16, 16, limits_of(2, 8));
  for (int i = 0; i < 3; ++i) add(1, 2);
  EXPECT_EQ(step().chunks.size(), 2u);
  EXPECT_EQ(scheduler->waiting().size(), 1u);
}

TEST_F(SchedulerTest, AdmitsInOrderOfPriorityThenArrival) {
  make(16, 16, limits_of(1, 8));
  Sequence& low = add(1, 1, -1);
  Sequence& first = add(1, 1, 5);
  Sequence& second = add(1, 1, 5);
  EXPECT_EQ(step().chunks[0].sequence, &first);
  EXPECT_EQ(step().chunks[0].sequence, &second);
  EXPECT_EQ(step().chunks[0].sequence, &low);
}

TEST_F(SchedulerTest, NobodyOvertakesALargeRequestThatWaits) {
  make(8, 4, limits_of(4, 32));
  Sequence& running = add(16, 4);  // four blocks
  step();
  Sequence& large = add(20, 4);  // five: does not fit beside it
  Sequence& small = add(1, 1);
  const Plan plan = step();
  EXPECT_EQ(tokens_of(plan, running), 1);
  EXPECT_EQ(large.state, SequenceState::waiting);
  EXPECT_EQ(small.state, SequenceState::waiting);
}

TEST_F(SchedulerTest, KeepsOneBlockInReserveForEachRunning) {
  make(4, 4, limits_of(4, 32));
  add(4, 8);  // one block, may take three
  step();
  Sequence& second = add(9, 1);  // three blocks: 3 are free, but one is reserved
  step();
  EXPECT_EQ(second.state, SequenceState::waiting);
}

TEST_F(SchedulerTest, ALoneSequenceMayTakeTheWholePool) {
  make(4, 4, limits_of(4, 32));
  Sequence& s = add(15, 1);
  step();
  EXPECT_EQ(s.state, SequenceState::finished);
  EXPECT_EQ(cache->available(), 4);
}

TEST_F(SchedulerTest, PreemptsTheNewestWhenBlocksRunOut) {
  make(4, 4, limits_of(4, 32));
  Sequence& older = add(4, 12);
  Sequence& newer = add(4, 12);
  int preemptions = 0, steps = 0;
  while (!scheduler->idle()) {
    ASSERT_LT(++steps, 100);
    const std::int64_t before = older.length();
    preemptions += step().preemptions;
    if (older.state != SequenceState::finished) {
      EXPECT_EQ(older.length(), before + 1) << "the older one must not wait";
    }
  }
  EXPECT_GT(preemptions, 0);
  EXPECT_EQ(newer.length(), 16);
  EXPECT_EQ(cache->available(), 4);
}

TEST_F(SchedulerTest, APreemptedSequenceRecomputesPromptAndOutput) {
  make(4, 4, limits_of(4, 32));
  add(4, 12);
  Sequence& newer = add(4, 12);
  while (newer.state != SequenceState::waiting || newer.length() == 4) step();
  const std::int64_t known = newer.length();
  EXPECT_GT(known, 5);
  EXPECT_TRUE(newer.blocks.empty());
  Plan plan;
  while (newer.state == SequenceState::waiting) plan = step();
  EXPECT_EQ(tokens_of(plan, newer), known);
  EXPECT_EQ(newer.length(), known + 1);
}

TEST_F(SchedulerTest, AHigherPriorityTakesTheSlotOfALower) {
  make(16, 16, limits_of(2, 8));
  Sequence& a = add(2, 20);
  Sequence& b = add(2, 20);
  step();
  Sequence& urgent = add(2, 20, 1);
  const Plan plan = step();
  EXPECT_EQ(plan.preemptions, 1);
  EXPECT_EQ(urgent.state, SequenceState::running);
  EXPECT_EQ(a.state, SequenceState::running);
  EXPECT_EQ(b.state, SequenceState::waiting);
}

TEST_F(SchedulerTest, AHigherPriorityThatCannotFitPreemptsNobody) {
  make(8, 4, limits_of(4, 32));
  Sequence& equal = add(16, 4, 1);  // stays: same priority
  Sequence& low = add(4, 4, 0);
  step();
  Sequence& urgent = add(20, 4, 1);  // five blocks; even without `low` only three are free
  const Plan plan = step();
  EXPECT_EQ(plan.preemptions, 0);
  EXPECT_EQ(equal.state, SequenceState::running);
  EXPECT_EQ(low.state, SequenceState::running);
  EXPECT_EQ(urgent.state, SequenceState::waiting);
}

TEST_F(SchedulerTest, RemovingFreesBlocksAtOnce) {
  make(8, 4, limits_of(4, 32));
  Sequence& s = add(16, 4);
  step();
  EXPECT_EQ(cache->used(), 4);
  scheduler->remove(s);
  EXPECT_EQ(cache->used(), 0);
  EXPECT_TRUE(scheduler->idle());
}

TEST_F(SchedulerTest, SamplesShareTheFullBlocksOfTheirPrompt) {
  make(32, 4, limits_of(4, 8));
  SampleGroup& group = groups.emplace_back();
  Sequence* samples[3];
  for (int i = 0; i < 3; ++i) samples[i] = &add_to(group, 10, 6, 0, 0, i);  // two full blocks and two tokens more
  EXPECT_EQ(step().chunks.size(), 1u);  // the first prefills, its siblings step aside
  EXPECT_EQ(samples[1]->state, SequenceState::waiting);
  const Plan plan = step();  // 8 tokens are in the cache: the others join with what they lack
  EXPECT_EQ(tokens_of(plan, *samples[0]), 2);
  EXPECT_EQ(tokens_of(plan, *samples[1]), 2);
  EXPECT_EQ(tokens_of(plan, *samples[2]), 2);
  EXPECT_EQ(cache->references(samples[0]->blocks[0]), 3);
  EXPECT_EQ(cache->references(samples[0]->blocks[1]), 3);
  EXPECT_EQ(cache->references(samples[0]->blocks[2]), 1);
  EXPECT_EQ(samples[1]->blocks[0], samples[0]->blocks[0]);
  EXPECT_NE(samples[1]->blocks[2], samples[0]->blocks[2]);
  scheduler->remove(*samples[0]);
  EXPECT_EQ(cache->references(samples[1]->blocks[0]), 2);
}

TEST_F(SchedulerTest, APromptOfWholeBlocksSharesAllButTheLast) {
  make(32, 4, limits_of(4, 16));
  SampleGroup& group = groups.emplace_back();
  Sequence& a = add_to(group, 8, 6, 0, 0, 0);
  Sequence& b = add_to(group, 8, 6, 0, 0, 1);
  step();
  EXPECT_EQ(tokens_of(step(), b), 4);  // the last token's logits are needed, so its block is its own
  EXPECT_EQ(b.blocks[0], a.blocks[0]);
  EXPECT_NE(b.blocks[1], a.blocks[1]);
}

TEST_F(SchedulerTest, ASiblingTakesOverWhenTheFirstIsRemovedMidway) {
  make(32, 4, limits_of(4, 8));
  SampleGroup& group = groups.emplace_back();
  Sequence& a = add_to(group, 20, 6, 0, 0, 0);
  Sequence& b = add_to(group, 20, 6, 0, 0, 1);
  step();
  scheduler->remove(a);
  EXPECT_EQ(tokens_of(step(), b), 8);
}

TEST_F(SchedulerTest, SiblingsThatStepAsideDoNotBlockOthers) {
  make(32, 4, limits_of(4, 8));
  SampleGroup& group = groups.emplace_back();
  add_to(group, 20, 6, 0, 0, 0);
  Sequence& sibling = add_to(group, 20, 6, 0, 0, 1);
  next_arrival = 1;
  Sequence& other = add(2, 6);
  step();
  EXPECT_EQ(sibling.state, SequenceState::waiting);
  EXPECT_EQ(other.state, SequenceState::running);
}

TEST_F(SchedulerTest, PromptScoresAreBoundedByTheRows) {
  make(32, 4, limits_of(2, 16, 3));
  Sequence& s = add(10, 2);
  s.group->score_prompt = true;
  std::vector<int> scored;
  while (s.state != SequenceState::finished) {
    const Plan plan = step();
    EXPECT_LE(plan.rows, 5);
    scored.push_back(plan.chunks[0].scored);
  }
  // One of the two rows for draws is free for scores as well: nobody else runs.
  EXPECT_EQ(scored, (std::vector<int>{4, 4, 1, 0}));
  EXPECT_EQ(s.group->scored, 10);
}

TEST_F(SchedulerTest, ScoresThatAreKnownAreNotAskedForAgain) {
  make(32, 4, limits_of(2, 16, 30));
  Sequence& s = add(10, 4);
  s.group->score_prompt = true;
  s.group->scored = 7;  // as after a preemption midway
  const Plan plan = step();
  EXPECT_EQ(plan.chunks[0].score_begin, 6);
  EXPECT_EQ(plan.chunks[0].scored, 3);
  EXPECT_EQ(plan.rows, 4);
}

TEST_F(SchedulerTest, LengthDependentRopeRecomputesOutputOneByOne) {
  SchedulerLimits limits = limits_of(2, 64);
  limits.rope_threshold = 12;
  make(32, 4, limits);
  Sequence& s = add(10, 20);
  for (int i = 0; i < 8; ++i) step();  // 18 tokens known
  // As preemption leaves it.
  scheduler->remove(s);
  s.computed = 0;
  scheduler->add(s);
  std::vector<int> chunks;
  while (s.pending() > 1 || s.computed == 0) chunks.push_back(tokens_of(step(), s));
  EXPECT_EQ(chunks, (std::vector<int>{12, 1, 1, 1, 1, 1}));
}

TEST_F(SchedulerTest, LengthDependentRopeLeavesALongPromptWhole) {
  SchedulerLimits limits = limits_of(2, 64);
  limits.rope_threshold = 4;
  make(32, 4, limits);
  Sequence& s = add(10, 20);
  EXPECT_EQ(tokens_of(step(), s), 10);
}

}  // namespace
}  // namespace bittern::engine
