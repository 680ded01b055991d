// Steps of a model built by hand: sequences with blocks scattered over the pool, and ragged batches of their pieces.
// It sits below the engine, so that a test decides which tokens share a step and which length RoPE uses.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "models/model.h"
#include "models/runner.h"

namespace bittern::golden {

/// A backend to test: "ref", or "cpu" forced to an instruction set or left to its defaults.
struct BackendChoice {
  std::string backend;
  std::string isa;  // "": the best
  bool deterministic = true;
  std::string label() const { return backend + (isa.empty() ? "" : "_" + isa) + (deterministic ? "" : "_default"); }
};
std::vector<BackendChoice> backend_choices();
/// Why this machine cannot run the choice, or "".
std::string reason_to_skip(const BackendChoice& choice);

/// One sequence: where its tokens lie and how many are stored.
struct Sequence {
  std::vector<std::int32_t> blocks;
  std::int32_t length = 0;
  /// Length that length-dependent RoPE uses; 0: the length once the current step is stored.
  std::int32_t rope_length = 0;
};

/// The next tokens of a sequence in a step.
struct Piece {
  Sequence& sequence;
  std::span<const std::int32_t> tokens;
};

/// A loaded model with a pool for a few sequences of up to kMaxLength tokens.
class Bench {
 public:
  static constexpr int kMaxLength = 96;
  static constexpr int kBlockTokens = 16;
  static constexpr int kSequences = 4;

  /// The KV cache is f32: the only loss left is rounding.
  Bench(const std::shared_ptr<const ModelFiles>& files, const BackendChoice& choice);

  const ModelConfig& config() const { return model_->config(); }
  /// A new sequence; its blocks are neither adjacent nor in order. At most kSequences over the life of the bench.
  Sequence sequence(std::int32_t rope_length = 0);
  /// Runs one step over the pieces and returns the logits of all their tokens, (tokens, vocab) in order.
  std::vector<float> step(std::span<const Piece> pieces);
  std::vector<float> step(Sequence& sequence, std::span<const std::int32_t> tokens);
  /// Feeds `tokens` in chunks of `chunk` and returns the logits of all.
  std::vector<float> feed(Sequence& sequence, std::span<const std::int32_t> tokens, std::size_t chunk);
  /// `count` greedy tokens, the first chosen from `last` (vocab).
  std::vector<std::int32_t> greedy(Sequence& sequence, std::span<const float> last, std::size_t count);
  /// The last row of logits.
  std::span<const float> last_row(const std::vector<float>& logits) const;

 private:
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Runner> runner_;
  int sequences_ = 0;
};

}  // namespace bittern::golden
