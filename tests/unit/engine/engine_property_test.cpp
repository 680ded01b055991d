// Random workloads against the fake model: whatever arrives, is cancelled, is preempted or runs beside it, every answer
// is the one the plain loop gives, every invariant holds after every step, and everything ends.
#include <gtest/gtest.h>

#include <map>

#include "fake_model.h"

namespace bittern::engine {
namespace {

using testing::Answer;
using testing::Harness;
using testing::kVocab;
using testing::read_arrived;
using testing::run_alone;

struct World {
  int block_tokens;
  std::int64_t blocks;
  std::int64_t context;
  SchedulerLimits limits;
  std::vector<std::int32_t> common;  // how many prompts begin
};

World random_world(Random& random) {
  World w;
  w.block_tokens = 1 + static_cast<int>(random.next_below(9));
  w.context = 16 + random.next_below(60);
  const std::int64_t least = (w.context + w.block_tokens - 1) / w.block_tokens;
  w.blocks = least + random.next_below(static_cast<std::uint32_t>(random.next_below(2) ? 3 : 2 * least));
  w.limits.max_sequences = 1 + static_cast<int>(random.next_below(6));
  w.limits.max_step_tokens = w.limits.max_sequences + static_cast<int>(random.next_below(24));
  w.limits.max_logit_rows = w.limits.max_sequences + 1 + static_cast<int>(random.next_below(6));
  w.limits.max_draft = random.next_below(2) ? 0 : static_cast<int>(random.next_below(7));
  w.limits.prefix_cache = random.next_below(3) > 0;
  for (std::int64_t i = 0; i < w.context; ++i) w.common.push_back(static_cast<std::int32_t>(random.next_below(kVocab)));
  return w;
}

Request random_request(Random& random, const World& w) {
  Request r;
  const auto longest = static_cast<std::uint32_t>(w.context - 1);
  const std::uint32_t prompt = 1 + random.next_below(random.next_below(4) == 0 ? longest : longest / 2);
  const std::uint32_t shared = random.next_below(2) ? random.next_below(prompt + 1) : 0;
  r.prompt.assign(w.common.begin(), w.common.begin() + shared);
  for (std::uint32_t i = shared; i < prompt; ++i)
    r.prompt.push_back(static_cast<std::int32_t>(random.next_below(kVocab)));
  r.n = random.next_below(3) == 0 ? 1 + static_cast<int>(random.next_below(5)) : 1;
  r.client = std::string(1, static_cast<char>('a' + random.next_below(3)));
  r.cache_salt = random.next_below(4) ? "" : "other";
  r.priority = static_cast<int>(random.next_below(3)) - 1;
  SamplingParams& p = r.sampling;
  p.seed = random.next_u64();
  p.max_tokens = 1 + static_cast<int>(random.next_below(40));
  p.min_tokens = static_cast<int>(random.next_below(static_cast<std::uint32_t>(p.max_tokens) + 1));
  p.temperature = random.next_below(4) == 0 ? 0.0 : 0.5 + random.next_double();
  p.top_k = random.next_below(2) ? 0 : static_cast<int>(random.next_below(30));
  p.top_p = random.next_below(2) ? 1.0 : 0.3 + 0.6 * random.next_double();
  p.min_p = random.next_below(3) ? 0.0 : 0.1;
  p.repetition_penalty = random.next_below(3) ? 1.0 : 1.3;
  p.frequency_penalty = random.next_below(3) ? 0.0 : 0.4;
  p.ignore_eos = random.next_below(2) == 0;
  p.logprobs = random.next_below(3) ? -1 : 2;
  p.prompt_logprobs = random.next_below(4) ? -1 : 1;
  return r;
}

// What is left of an answer that was cut off must be how it begins alone.
void expect_prefix(const Answer& got, const Answer& whole) {
  ASSERT_LE(got.tokens.size(), whole.tokens.size());
  for (std::size_t i = 0; i < got.tokens.size(); ++i) ASSERT_EQ(got.tokens[i], whole.tokens[i]) << "token " << i;
}

struct Client {
  std::shared_ptr<RequestChannel> channel;
  std::vector<bool> cancelled;  // by sample
};

// Accounting that the core's own check does not see: nobody is lost between submit and the end.
void expect_nobody_lost(const EngineStats& s, std::int64_t submitted) {
  ASSERT_EQ(s.running + s.waiting + s.finished + s.cancelled + s.failed, submitted);
  ASSERT_LE(s.blocks_used + s.blocks_cached, s.blocks_total);
}

void check_client(Client& client, const World& world) {
  const std::vector<Answer> answers = read_arrived(*client.channel);
  for (int i = 0; i < client.channel->request().n; ++i) {
    const Answer& got = answers[static_cast<std::size_t>(i)];
    const Answer alone = run_alone(client.channel->request(), i, world.context);
    SCOPED_TRACE(::testing::Message() << "sample " << i);
    if (got.finish == FinishReason::cancelled) {
      EXPECT_TRUE(client.cancelled[static_cast<std::size_t>(i)]);
      ASSERT_NO_FATAL_FAILURE(expect_prefix(got, alone));
    } else {
      ASSERT_EQ(got, alone);
    }
  }
}

struct Seen {
  std::int64_t preemptions = 0, prefix_hits = 0;
};

// Runs one random world to its end, and adds up what happened in it.
void run_world(std::uint64_t seed, Seen& seen) {
  Random random(seed);
  const World world = random_world(random);
  Harness h(world.blocks, world.block_tokens, world.limits, world.context);
  std::vector<Client> clients;
  std::int64_t submitted = 0;
  int to_submit = 12 + static_cast<int>(random.next_below(20));
  int steps = 0;
  while (to_submit > 0 || !h.core.idle()) {
    EXPECT_LT(++steps, 20000) << "no progress";
    if (steps >= 20000) return;
    while (to_submit > 0 && random.next_below(3) == 0) {
      Request request = random_request(random, world);
      submitted += request.n;
      --to_submit;
      Client client{nullptr, std::vector<bool>(static_cast<std::size_t>(request.n))};
      client.channel = h.submit(std::move(request));
      clients.push_back(std::move(client));
    }
    if (!clients.empty() && random.next_below(25) == 0) {
      Client& client = clients[random.next_below(static_cast<std::uint32_t>(clients.size()))];
      const int sample = static_cast<int>(random.next_below(static_cast<std::uint32_t>(client.cancelled.size())));
      client.cancelled[static_cast<std::size_t>(sample)] = true;
      h.cancel(*client.channel, sample);
    }
    h.step();
    expect_nobody_lost(h.core.stats(), submitted);
  }
  EXPECT_EQ(h.core.stats().blocks_used, 0);
  for (std::size_t i = 0; i < clients.size(); ++i) {
    SCOPED_TRACE(::testing::Message() << "request " << i);
    check_client(clients[i], world);
  }
  seen.preemptions += h.core.stats().preemptions;
  seen.prefix_hits += h.core.stats().prefix_hits;
}

TEST(EngineProperty, RandomWorkloadsAnswerAsAlone) {
  Seen seen;
  for (std::uint64_t seed = 0; seed < 150; ++seed) {
    SCOPED_TRACE(::testing::Message() << "world " << seed);
    run_world(seed, seen);
    if (::testing::Test::HasFailure()) return;
  }
  EXPECT_GT(seen.preemptions, 200) << "the pools are too roomy to test preemption";
  EXPECT_GT(seen.prefix_hits, 1000) << "the prompts have too little in common to test the prefix cache";
}

// Every running sequence of the highest rank gains a token, or comes closer to one, in every step.
TEST(EngineProperty, TheFirstInRankAlwaysProgresses) {
  Random random(4);
  for (int round = 0; round < 50; ++round) {
    const World world = random_world(random);
    Harness h(world.blocks, world.block_tokens, world.limits, world.context);
    Request first = random_request(random, world);
    first.n = 1;
    first.priority = 9;
    first.sampling.ignore_eos = true;
    first.sampling.prompt_logprobs = -1;
    const auto budget = static_cast<int>(first.prompt.size()) + first.sampling.max_tokens + 1;
    auto channel = h.submit(first);
    for (int i = 0; i < 15; ++i) h.submit(random_request(random, world));
    // With the budget of a step shared among decoders, a prompt token a step is the least it gets.
    for (int i = 0; i < budget; ++i) h.step();
    EXPECT_NE(read_arrived(*channel)[0].finish, FinishReason::none) << "round " << round;
    h.run_until_idle();
  }
}

}  // namespace
}  // namespace bittern::engine
