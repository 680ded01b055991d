// Batch: the arrays of one step. It owns the memory behind the BatchView, taken once for the largest step, and fills it
// from a Plan; nothing here allocates afterwards.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "engine/plan.h"

namespace bittern::engine {

class Batch {
 public:
  /// Room for steps of at most `max_tokens` tokens of `max_sequences` sequences with `max_blocks` blocks each.
  Batch(int max_tokens, int max_sequences, std::int64_t max_blocks, int max_logit_rows);

  /// Lays the chunks of `plan` one after another, in its order.
  void assign(const Plan& plan);

  /// Valid until the next assign().
  BatchView view() const;
  std::span<const std::int32_t> logit_rows() const { return logit_rows_; }

 private:
  void append(const Chunk& chunk);

  std::int64_t max_blocks_;
  std::vector<std::int32_t> token_ids_;     // (tokens)
  std::vector<std::int32_t> positions_;     // (tokens)
  std::vector<std::int32_t> q_start_;       // (sequences + 1)
  std::vector<std::int32_t> context_;       // (sequences)
  std::vector<std::int32_t> rope_length_;   // (sequences)
  std::vector<std::int32_t> block_tables_;  // (sequences, max_blocks), -1 beyond a sequence's own
  std::vector<std::int32_t> logit_rows_;    // (rows)
};

}  // namespace bittern::engine
