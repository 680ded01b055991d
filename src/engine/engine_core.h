// EngineCore: the step of the engine, on whichever one thread calls it: admit, schedule, launch, collect, commit,
// notify. It owns the sequences and everything decided about them; other threads reach it through the Inbox and read
// results through each request's RequestChannel. README.md is its contract.
#pragma once

#include <bittern/engine.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/batch.h"
#include "engine/cache_manager.h"
#include "engine/inbox.h"
#include "engine/sampler.h"
#include "engine/scheduler.h"
#include "engine/step_runner.h"

namespace bittern::engine {

/// Facts of the model and of the memory plan that steps depend on.
struct CoreConfig {
  std::int64_t vocab = 0;
  std::int64_t hidden = 0;
  std::int64_t context = 0;  // longest sequence; must fit the pool
  std::int64_t kv_blocks = 0;
  int block_tokens = 64;
  std::vector<std::int32_t> eos_ids;
  SchedulerLimits limits;
};

/// The engine thread's side of one request, from admission until its last sample has ended.
struct ActiveRequest {
  std::shared_ptr<RequestChannel> channel;
  SampleGroup group;
  std::vector<Sequence> sequences;        // (n), in place for good
  std::vector<std::int32_t> end_ids;      // tokens that end a sample
  std::vector<TokenEvent> prompt_scores;  // grows to one for each token of the prompt
  std::vector<double> pooled;             // (hidden) sum or copy of states, of requests that want one
  RequestProgress progress;
  bool stepped = false;  // has had its first step, so it has left the waiting line

  const Request& request() const { return channel->request(); }
  const SamplingParams& sampling() const { return request().sampling; }
};

class EngineCore {
 public:
  /// `runner` must accept steps of `config.limits` and hold `config.kv_blocks` blocks; both references outlive the
  /// core.
  EngineCore(const CoreConfig& config, StepRunner& runner, Inbox& inbox);

  /// One step. Afterwards every token it made has been delivered and the blocks of every sample that ended are free.
  void step();
  /// Nothing is left to do until mail arrives.
  bool idle() const { return requests_.empty(); }
  /// Ends every sample, those still in the inbox included, with `reason`.
  void end_all(FinishReason reason, const std::string& error);

  // --- any thread ---
  EngineStats stats() const;
  /// The step that runs: how many were begun before it, how long it has been running (0: none runs), and what it does.
  struct RunningStep {
    std::int64_t number = 0;
    double seconds = 0;
    int sequences = 0, tokens = 0;
  };
  RunningStep running_step() const;
  /// Counts a stall, which the watchdog has seen.
  void count_stall() { ++stalls_; }

  void check_integrity() const;

 private:
  struct Delivery {
    ActiveRequest* request;
    TokenEvent event;
  };

  /// What one chunk drew: one token, and another for each token of its draft that was right.
  struct Drawn {
    std::vector<SampledToken> tokens;
    std::string error;  // not empty: what kept the next one from being drawn
    int accepted() const { return std::max(0, static_cast<int>(tokens.size()) - 1); }
  };

  /// Lets the watchdog see a step from here to its end, also where an exception ends it.
  class StepClock {
   public:
    StepClock(EngineCore& core, const Plan& plan);
    ~StepClock() { core_.step_begin_ = 0; }
    StepClock(const StepClock&) = delete;
    StepClock& operator=(const StepClock&) = delete;

   private:
    EngineCore& core_;
  };

  // The phases of a step.
  void admit();
  void draft();
  bool launch(const Plan& plan);
  void collect(const Plan& plan);
  void commit(const Plan& plan);
  void notify();

  void add(std::shared_ptr<RequestChannel> channel);
  std::int64_t turn_of(const std::string& client);
  void cancel_as_asked();
  void draw(const Chunk& chunk, std::span<const float> rows, Drawn& drawn);
  SampledToken draw_one(const Sequence& sequence, std::span<const float> logits);
  std::string pool(const Chunk& chunk, std::int64_t first_row);
  void first_step(ActiveRequest& request, const Sequence& sequence);
  void finish_undrawn(Sequence& sequence);
  std::string score_prompt(const Chunk& chunk, std::span<const float> rows);
  void append(Sequence& sequence, SampledToken& drawn);
  void finish(Sequence& sequence, TokenEvent end);
  void finish_all(std::vector<Sequence*> sequences, FinishReason reason, const std::string& error);
  void record_progress(ActiveRequest& request, const TokenEvent& event, RequestProgress::Clock::time_point now);
  void retire_finished();
  void publish_stats();

  const CoreConfig config_;
  StepRunner& runner_;
  Inbox& inbox_;
  CacheManager cache_;
  Scheduler scheduler_;
  Batch batch_;
  Sampler sampler_;

  Inbox::Mail mail_;
  std::vector<std::unique_ptr<ActiveRequest>> requests_;  // in order of arrival
  std::int64_t arrivals_ = 0;
  std::int64_t turn_ = 0;                                    // of the last request that had its first step
  std::unordered_map<std::string, std::int64_t> last_turn_;  // of each client that waits or waited lately
  std::span<const float> logits_;                            // of the step that runs, (plan.rows, vocab)
  std::vector<Drawn> drawn_;                                 // of the step that runs, one for each chunk
  std::vector<Delivery> deliveries_;                         // of the step that runs, in order
  int left_line_ = 0;             // requests that left the waiting line in the step that runs
  std::int64_t left_tokens_ = 0;  // and the tokens of their prompts
  std::vector<float> states_;     // scratch, (tokens of a chunk, hidden)
  EngineStats counters_;          // the engine thread's own

  // What the watchdog sees.
  std::atomic<std::int64_t> step_begin_{0};  // nanoseconds of the steady clock; 0: no step runs
  std::atomic<std::int64_t> step_number_{0};
  std::atomic<int> step_sequences_{0}, step_tokens_{0};
  std::atomic<std::int64_t> stalls_{0};

  mutable std::mutex stats_mutex_;
  EngineStats stats_;  // what stats() hands out
};

}  // namespace bittern::engine
