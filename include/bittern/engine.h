// Engine: continuous batching over a paged KV cache on one thread of its own. submit() joins a Request to the batch and
// returns a TokenStream to read its tokens from; overload is refused at submit, cancelling frees blocks in the same
// step. It does not know text: stop strings are matched by the caller, which then cancels.
#pragma once

#include <bittern/request.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace bittern {

class Backend;
class Model;
struct KvStaticParams;
struct MemoryPlan;

struct EngineOptions {
  /// auto | f32 | f16 | bf16 | int8 | int4 | int8-static; auto: bf16, on the ref backend f32.
  std::string kv_cache = "auto";
  std::shared_ptr<const KvStaticParams> kv_params;  // of int8-static, which is refused without
  std::int64_t kv_cache_bytes = 0;   // 0: as many blocks as max_sequences * context need, within kv_cache_share
  double kv_cache_share = 0.5;       // of free memory, in (0, 1]
  std::int64_t kv_cache_blocks = 0;  // not 0: just so many, whatever the two above say
  int block_tokens = 64;
  /// Longest sequence, prompt and output. 0: what the model was made for, or what the blocks hold if that is less (the
  /// plan says which); a number that does not fit is refused.
  std::int64_t context = 0;
  int max_sequences = 16;              // sequences of one step
  int max_step_tokens = 512;           // tokens of one step: the chunk of chunked prefill; at least max_sequences
  int max_queued = 1024;               // waiting requests beyond which submit refuses
  std::int64_t max_queued_tokens = 0;  // likewise the tokens of their prompts; 0: no bound of its own
  /// Full blocks outlive their sequence, so that a prompt that begins like an earlier one starts where they part. Off
  /// for models whose rope depends on the length (the plan says so).
  bool prefix_cache = true;
  /// A step that takes longer than this is a stall: `on_stall` is told what runs, and stats() says so. 0: no watchdog.
  double stall_seconds = 60;
  std::function<void(const std::string& message)> on_stall;  // called on the watchdog's thread; may be empty
  std::function<void(const MemoryPlan& plan)> on_plan;       // called before the plan is allocated; may be empty
  /// Tokens guessed ahead of a sequence by prompt lookup, at most 32, and verified in its next step: answers stay what
  /// they are, and come sooner where they repeat what was there before. 0: none.
  int speculate = 0;
};

/// Bytes of each part, computed before anything is allocated.
struct MemoryPlan {
  std::int64_t weights = 0;
  std::int64_t kv_block = 0;
  std::int64_t kv_blocks = 0;
  std::int64_t arena = 0;
  std::int64_t context = 0;
  std::string kv_format;
  int block_tokens = 0;
  int max_sequences = 0;
  bool prefix_cache = false;
  std::string explanation;  // in one sentence: why so many blocks and so long a context
  /// Sequences of the longest context that the blocks hold at once.
  std::int64_t longest_at_once() const { return kv_blocks / ((context + block_tokens - 1) / block_tokens); }
  std::int64_t kv_total() const { return kv_block * kv_blocks; }
  std::int64_t total() const { return weights + kv_total() + arena; }
};

/// The plan for people: a line for each part, what fits, and why.
std::string describe(const MemoryPlan& plan);

/// A consistent snapshot of counters and gauges. Requests are counted by sample: n of them each.
struct EngineStats {
  std::int64_t running = 0, waiting = 0;
  std::int64_t blocks_used = 0, blocks_total = 0;
  std::int64_t blocks_cached = 0;  // free but for the prefixes they hold, of which they are robbed when needed
  std::int64_t prefix_queries = 0, prefix_hits = 0;  // tokens of prompts looked up in the prefix cache, and found there
  std::int64_t waiting_tokens = 0;                   // of prompts that wait for their first step
  std::int64_t prompt_tokens = 0, generated_tokens = 0;
  std::int64_t preemptions = 0, steps = 0, finished = 0, cancelled = 0, failed = 0;
  std::int64_t drafted_tokens = 0, accepted_tokens = 0;  // guessed and run; of them, those that were right
  double step_seconds = 0;     // how long the step that runs has been running; 0 between steps
  double stalled_seconds = 0;  // the same once it exceeds EngineOptions::stall_seconds, else 0
  std::int64_t stalls = 0;     // steps that did
};

/// How far a request has come. Times are absent until they have come.
struct RequestProgress {
  using Clock = std::chrono::steady_clock;
  Clock::time_point queued;
  std::optional<Clock::time_point> scheduled;    // the start of the first step that ran some of it
  std::optional<Clock::time_point> first_token;  // the end of the step that made it
  std::int64_t cached_tokens = 0;                // of the prompt, found in the prefix cache; known once scheduled
  std::int64_t preemptions = 0;                  // of all samples
};

/// Where a request's tokens arrive. One reader; destroying it cancels the request.
class TokenStream {
 public:
  virtual ~TokenStream() = default;
  /// Blocks for the next event; nullopt once every sample has finished and all events were read.
  virtual std::optional<TokenEvent> next() = 0;
  /// As next(), but gives up after `timeout`; `timed_out` tells the two empties apart.
  virtual std::optional<TokenEvent> next_for(std::chrono::milliseconds timeout, bool& timed_out) = 0;
  /// `wake` is called on the engine's thread with every event, and at once if some are there already; it must return
  /// quickly and call nothing of the engine or this stream. For readers that must not block, with next_for(0).
  virtual void on_events(std::function<void()> wake) = 0;
  /// Stops one sample, or all with -1. Its blocks are free after the current step.
  virtual void cancel(int sample = -1) = 0;
  /// The seed in use.
  virtual std::uint64_t seed() const = 0;
  /// Log-probabilities of the prompt's tokens (the first has none), once prefill is done; empty unless asked for.
  virtual const std::vector<TokenEvent>& prompt_logprobs() const = 0;
  /// The pooled vector (hidden size), not normalized, once the request has ended with stop; empty unless asked for.
  virtual const std::vector<float>& embedding() const = 0;
  virtual RequestProgress progress() const = 0;
};

class Engine {
 public:
  virtual ~Engine() = default;
  /// Error(invalid_argument) names the field; Error(overloaded) when the queue is full; a prompt that can never fit is
  /// Error(invalid_argument) saying how long it may be.
  virtual std::unique_ptr<TokenStream> submit(Request request) = 0;
  virtual EngineStats stats() const = 0;
  virtual const MemoryPlan& plan() const = 0;
};

/// The plan alone, without allocating. Error(out_of_memory) says what fits instead; a size of the KV cache that was
/// asked for by number is not compared with free memory here, but by make_engine.
MemoryPlan plan_memory(Model& model, Backend& backend, const EngineOptions& options);
/// `model` and `backend` must outlive the engine.
std::unique_ptr<Engine> make_engine(Model& model, Backend& backend, const EngineOptions& options);

}  // namespace bittern
