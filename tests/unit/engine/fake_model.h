// FakeModel: a deterministic stand-in for a model that is strict about the engine. It keeps a paged cache of its own,
// reads every context back through the block table, and aborts the test where a slot does not hold what its sequence
// stored there; logits are a hash of the whole context, so a wrong, stale or stolen block changes the answer.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <stdexcept>
#include <vector>

#include "base/random.h"
#include "engine/engine_core.h"
#include "engine/step_runner.h"

namespace bittern::engine::testing {

constexpr std::int64_t kVocab = 48;
constexpr std::int32_t kEos = 7;
constexpr std::int64_t kHidden = 3;

inline float fake_state(std::int32_t token, std::int32_t position, std::int64_t channel) {
  return static_cast<float>(token) * 0.37f + static_cast<float>(position * (channel + 1)) * 0.011f;
}

/// Logits after `context`, in about [-4, 4]; `rope_length` takes part, as it does in models with dynamic scaling.
inline std::vector<float> fake_logits(std::span<const std::int32_t> context, std::uint64_t rope_length = 0) {
  std::uint64_t hash = 0x9E3779B97F4A7C15u ^ rope_length;
  for (std::int32_t token : context)
    hash = (hash ^ static_cast<std::uint64_t>(token + 1)) * 0xD6E8FEB86659FD93u + 0x1234567;
  Random random(hash);
  std::vector<float> logits(static_cast<std::size_t>(kVocab));
  for (float& logit : logits) logit = random.next_float() * 8.0f - 4.0f;
  return logits;
}

class FakeModel final : public StepRunner {
 public:
  FakeModel(std::int64_t blocks, int block_tokens, SchedulerLimits limits)
      : limits_(limits), block_tokens_(block_tokens), slots_(static_cast<std::size_t>(blocks * block_tokens)) {
    logits_.reserve(static_cast<std::size_t>(limits.max_logit_rows * kVocab));
  }

  std::span<const float> step(const BatchView& batch, std::span<const std::int32_t> logit_rows) override {
    ++steps;
    if (before_step) before_step();
    check_shape(batch, logit_rows);
    last_rows_.clear();
    for (std::size_t i = 0; i < batch.token_ids.size(); ++i) {
      last_rows_.emplace_back(batch.token_ids[i], batch.positions[i]);
    }
    logits_.clear();
    std::size_t next_row = 0;
    for (int s = 0; s < batch.sequences; ++s) next_row = run_sequence(batch, s, logit_rows, next_row);
    EXPECT_EQ(next_row, logit_rows.size()) << "logit rows must ascend and lie in the batch";
    return logits_;
  }

  /// The state of a row is a function of its token and position, and of the row before it only by the caller's sum.
  void read_states(std::int64_t first, std::int64_t rows, std::span<float> out) override {
    if (before_read) before_read();
    ASSERT_EQ(out.size(), static_cast<std::size_t>(rows * kHidden));
    for (std::int64_t i = 0; i < rows * kHidden; ++i) {
      const auto [token, position] = last_rows_.at(static_cast<std::size_t>(first + i / kHidden));
      out[static_cast<std::size_t>(i)] = fake_state(token, position, i % kHidden);
      if (token == poison) out[static_cast<std::size_t>(i)] = std::numeric_limits<float>::quiet_NaN();
    }
  }

  int steps = 0;
  std::int64_t tokens_run = 0;
  bool length_dependent = false;      // let rope_length change the logits beyond limits.rope_threshold
  int memory = 0;                     // not 0: logits depend on so many last tokens alone, so that output repeats
  std::int32_t poison = -1;           // contexts that hold this token get NaN logits, its own rows NaN states
  std::function<void()> before_step;  // may throw
  std::function<void()> before_read;  // of states; may throw

 private:
  struct Slot {
    std::int32_t token = -1;
    std::int32_t position = -1;
    std::int32_t rope_length = -1;
  };

  void check_shape(const BatchView& b, std::span<const std::int32_t> logit_rows) const {
    ASSERT_GT(b.tokens, 0);
    ASSERT_LE(b.tokens, limits_.max_step_tokens);
    ASSERT_LE(b.sequences, limits_.max_sequences);
    ASSERT_LE(static_cast<int>(logit_rows.size()), limits_.max_logit_rows);
    ASSERT_EQ(b.q_start.size(), static_cast<std::size_t>(b.sequences) + 1);
    ASSERT_EQ(b.q_start[static_cast<std::size_t>(b.sequences)], b.tokens);
    ASSERT_EQ(b.block_tables.size(), static_cast<std::size_t>(b.sequences * b.max_blocks));
  }

  Slot& slot(const BatchView& b, int s, std::int64_t position) {
    const std::int32_t block = b.block_tables[static_cast<std::size_t>(s * b.max_blocks + position / block_tokens_)];
    return slots_.at(static_cast<std::size_t>(block) * static_cast<std::size_t>(block_tokens_) +
                     static_cast<std::size_t>(position % block_tokens_));
  }

  std::size_t run_sequence(const BatchView& b, int s, std::span<const std::int32_t> rows, std::size_t next_row) {
    const auto i = static_cast<std::size_t>(s);
    EXPECT_EQ(b.positions[static_cast<std::size_t>(b.q_start[i + 1] - 1)] + 1, b.context[i]);
    for (std::int32_t row = b.q_start[i]; row < b.q_start[i + 1]; ++row) {
      const std::int32_t position = b.positions[static_cast<std::size_t>(row)];
      slot(b, s, position) = {b.token_ids[static_cast<std::size_t>(row)], position, effective(b.rope_length[i])};
    }
    for (std::int32_t row = b.q_start[i]; row < b.q_start[i + 1]; ++row, ++tokens_run) {
      if (next_row == rows.size() || rows[next_row] != row) continue;
      ++next_row;
      emit_logits(b, s, b.positions[static_cast<std::size_t>(row)]);
    }
    return next_row;
  }

  void emit_logits(const BatchView& b, int s, std::int32_t position) {
    context_.clear();
    std::uint64_t rope = 0;
    bool poisoned = false;
    for (std::int32_t p = 0; p <= position; ++p) {
      const Slot& seen = slot(b, s, p);
      if (seen.position != p) throw std::logic_error("a cache slot holds another position");
      context_.push_back(seen.token);
      rope = rope * 31 + static_cast<std::uint64_t>(seen.rope_length);
      poisoned |= seen.token == poison;
    }
    const std::size_t seen = memory > 0 ? std::min(context_.size(), static_cast<std::size_t>(memory)) : context_.size();
    std::vector<float> logits = fake_logits(std::span(context_).last(seen), rope);
    if (poisoned) logits[3] = std::numeric_limits<float>::quiet_NaN();
    logits_.insert(logits_.end(), logits.begin(), logits.end());
  }

  std::int32_t effective(std::int32_t rope_length) const {
    return length_dependent && rope_length > limits_.rope_threshold ? rope_length : 0;
  }

  SchedulerLimits limits_;
  int block_tokens_;
  std::vector<Slot> slots_;
  std::vector<std::int32_t> context_;
  std::vector<std::pair<std::int32_t, std::int32_t>> last_rows_;  // token and position
  std::vector<float> logits_;
};

inline SchedulerLimits limits_of(int sequences, int step_tokens, int extra_rows = 8) {
  SchedulerLimits limits;
  limits.max_sequences = sequences;
  limits.max_step_tokens = step_tokens;
  limits.max_logit_rows = sequences + extra_rows;
  return limits;
}

inline SchedulerLimits caching(SchedulerLimits limits) {
  limits.prefix_cache = true;
  return limits;
}

/// A core, its inbox and its fake model, stepped by hand.
struct Harness {
  Harness(std::int64_t blocks, int block_tokens, SchedulerLimits limits, std::int64_t context)
      : inbox(1000),
        model(blocks, block_tokens, limits),
        core(config(blocks, block_tokens, limits, context), model, inbox) {}

  static CoreConfig config(std::int64_t blocks, int block_tokens, SchedulerLimits limits, std::int64_t context) {
    CoreConfig c;
    c.vocab = kVocab;
    c.hidden = kHidden;
    c.context = context;
    c.kv_blocks = blocks;
    c.block_tokens = block_tokens;
    c.eos_ids = {kEos};
    c.limits = limits;
    return c;
  }

  std::shared_ptr<RequestChannel> submit(Request request) {
    const std::uint64_t seed = request.sampling.seed.value_or(0);
    auto channel = std::make_shared<RequestChannel>(std::move(request), seed);
    inbox.submit(channel);
    return channel;
  }

  void cancel(RequestChannel& channel, int sample = -1) {
    channel.request_cancel(sample);
    inbox.announce_cancel();
  }

  /// One step, its invariants checked.
  void step() {
    core.step();
    core.check_integrity();
  }

  void run_until_idle(int most_steps = 100000) {
    step();
    while (!core.idle()) {
      ASSERT_GT(most_steps--, 0) << "no progress";
      step();
    }
  }

  Inbox inbox;
  FakeModel model;
  EngineCore core;
};

/// What one sample of a request amounts to.
struct Answer {
  std::vector<std::int32_t> tokens;
  std::vector<float> logprobs;
  FinishReason finish = FinishReason::none;
  std::int32_t stop_token = -1;
  std::string error;

  bool operator==(const Answer&) const = default;
};

/// Everything that has arrived, by sample; does not wait.
inline std::vector<Answer> read_arrived(RequestChannel& channel) {
  std::vector<Answer> answers(static_cast<std::size_t>(channel.request().n));
  bool timed_out = false;
  while (auto event = channel.next(std::chrono::steady_clock::now(), timed_out)) {
    Answer& answer = answers[static_cast<std::size_t>(event->sample)];
    EXPECT_EQ(answer.finish, FinishReason::none) << "an event after the end";
    if (event->token >= 0) {
      answer.tokens.push_back(event->token);
      answer.logprobs.push_back(event->logprob);
    }
    answer.finish = event->finish;
    answer.stop_token = event->stop_token;
    answer.error = event->error;
  }
  return answers;
}

/// The same answer by the plainest loop there is: no batch, no cache, no engine.
inline Answer run_alone(const Request& request, int sample, std::int64_t context) {
  Sampler sampler(kVocab);
  const SamplingParams& p = request.sampling;
  std::vector<std::int32_t> tokens = request.prompt;
  std::vector<std::int32_t> ends = p.stop_ids;
  if (!p.ignore_eos) ends.push_back(kEos);
  const auto prompt = static_cast<std::int64_t>(tokens.size());
  const std::int64_t limit = std::min(prompt + p.max_tokens, context);
  Answer answer;
  while (static_cast<std::int64_t>(tokens.size()) < limit) {
    const SampledToken drawn =
        sampler.sample(fake_logits(tokens), {p, p.seed.value_or(0), sample, tokens, prompt, ends, nullptr});
    EXPECT_EQ(drawn.error, "");
    if (std::find(ends.begin(), ends.end(), drawn.token) != ends.end()) {
      answer.finish = FinishReason::stop;
      answer.stop_token = drawn.token;
      return answer;
    }
    tokens.push_back(drawn.token);
    answer.tokens.push_back(drawn.token);
    answer.logprobs.push_back(drawn.logprob);
  }
  answer.finish = FinishReason::length;
  return answer;
}

/// `count` tokens that are not kEos, a function of `seed`.
inline std::vector<std::int32_t> some_tokens(int count, std::uint64_t seed) {
  Random random(seed);
  std::vector<std::int32_t> tokens;
  for (int i = 0; i < count; ++i) tokens.push_back(8 + static_cast<std::int32_t>(random.next_below(kVocab - 8)));
  return tokens;
}

inline Request make_request(int prompt_tokens, int max_tokens, std::uint64_t seed) {
  Request request;
  request.prompt = some_tokens(prompt_tokens, seed);
  request.sampling.max_tokens = max_tokens;
  request.sampling.seed = seed;
  return request;
}

}  // namespace bittern::engine::testing
