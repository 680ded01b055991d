// Runner: runs steps of one model on one backend with the KV pool and the arena that the memory plan gave it.
// It turns a BatchView into logits on the host and nothing more: which tokens to run is decided by its caller.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "backend/arena.h"
#include "backend/backend.h"
#include "models/model.h"

namespace bittern {

/// Limits of one step; the arena is sized for them.
struct RunnerLimits {
  int max_tokens = 512;     // tokens of one step
  int max_sequences = 16;   // sequences of one step
  int max_logit_rows = 16;  // rows of logits one step may ask for
};

class Runner {
 public:
  /// Allocates `kv_blocks` blocks and an arena of exactly the size a step of `limits` needs.
  Runner(Model& model, Backend& backend, KvSpec kv, std::int64_t kv_blocks, RunnerLimits limits);

  /// Runs one step. The returned f32 logits (logit_rows.size(), vocab) live on the host until the next call.
  std::span<float> step(const BatchView& batch, std::span<const std::int32_t> logit_rows, nn::Probe* probe = nullptr);

  /// Hidden states after the final norm of the last step's rows [first, first + rows), as f32 (rows, hidden).
  void read_states(std::int64_t first, std::int64_t rows, std::span<float> out);

  Model& model() { return model_; }
  Backend& backend() { return backend_; }
  KvPool& kv() { return *kv_; }
  const RunnerLimits& limits() const { return limits_; }
  std::int64_t arena_bytes() const { return arena_.capacity(); }

  /// Bytes of arena a step of `limits` needs, found by running the model over a measuring backend.
  static std::int64_t plan_arena(Model& model, Backend& backend, const KvSpec& kv, const RunnerLimits& limits);

 private:
  Model& model_;
  Backend& backend_;
  std::unique_ptr<KvPool> kv_;
  RunnerLimits limits_;
  Arena arena_;
  Tensor states_;                   // of the last step, in the arena
  std::vector<float> host_logits_;  // only for backends whose memory the host cannot read
};

/// One sequence run by itself: feeds tokens in chunks and hands out logits. What eval, calibration and tests use.
class SingleSequence {
 public:
  explicit SingleSequence(Runner& runner);
  void reset();
  /// Runs `tokens` after what was fed before, at most runner.limits().max_tokens a step. For every token whose
  /// `want[i]` is true (all when empty: none but the last) calls sink(index in tokens, logits).
  using Sink = std::function<void(std::int64_t index, std::span<const float> logits)>;
  void feed(std::span<const std::int32_t> tokens, const std::vector<bool>& want, const Sink& sink,
            nn::Probe* probe = nullptr);
  std::int64_t length() const { return length_; }
  /// Tokens the runner's whole KV pool holds; feeding more is a bug of the caller.
  std::int64_t capacity() const;
  /// Length that dynamic and LongRoPE scaling assume; by default that of the first feed after reset(), which is what
  /// the Hugging Face reference uses for a prompt.
  void set_rope_length(std::int64_t length) { rope_length_ = length; }

 private:
  void feed_chunk(std::span<const std::int32_t> tokens, const std::vector<std::int32_t>& rows, std::size_t offset,
                  const Sink& sink, nn::Probe* probe);

  Runner& runner_;
  std::vector<std::int32_t> blocks_;
  std::int64_t length_ = 0;
  std::int64_t rope_length_ = 0;
};

}  // namespace bittern
