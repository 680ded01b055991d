// Plan to arrays. The one rule of its own is rope_length: tokens of the prompt see the prompt's length, a generated
// token its own position + 1, so the value depends on the token alone and not on how it was scheduled.
#include "engine/batch.h"

#include <algorithm>

#include "base/check.h"

namespace bittern::engine {

Batch::Batch(int max_tokens, int max_sequences, std::int64_t max_blocks, int max_logit_rows) : max_blocks_(max_blocks) {
  token_ids_.reserve(static_cast<std::size_t>(max_tokens));
  positions_.reserve(static_cast<std::size_t>(max_tokens));
  q_start_.reserve(static_cast<std::size_t>(max_sequences) + 1);
  context_.reserve(static_cast<std::size_t>(max_sequences));
  rope_length_.reserve(static_cast<std::size_t>(max_sequences));
  block_tables_.reserve(static_cast<std::size_t>(max_sequences * max_blocks));
  logit_rows_.reserve(static_cast<std::size_t>(max_logit_rows));
}

void Batch::assign(const Plan& plan) {
  for (auto* array : {&token_ids_, &positions_, &q_start_, &context_, &rope_length_, &block_tables_, &logit_rows_}) {
    array->clear();
  }
  q_start_.push_back(0);
  for (const Chunk& chunk : plan.chunks) append(chunk);
}

void Batch::append(const Chunk& chunk) {
  const Sequence& sequence = *chunk.sequence;
  BITTERN_CHECK(static_cast<std::int64_t>(sequence.blocks.size()) <= max_blocks_);
  const std::int32_t row = q_start_.back() - static_cast<std::int32_t>(chunk.begin);  // row of position p is row + p
  for (std::int64_t p = chunk.begin; p < chunk.end(); ++p) {
    token_ids_.push_back(sequence.token(p));
    positions_.push_back(static_cast<std::int32_t>(p));
  }
  for (int i = 0; i < chunk.scored; ++i) logit_rows_.push_back(row + static_cast<std::int32_t>(chunk.score_begin) + i);
  for (int i = chunk.draws(); i > 0; --i) logit_rows_.push_back(row + static_cast<std::int32_t>(chunk.end()) - i);
  q_start_.push_back(q_start_.back() + chunk.tokens);
  context_.push_back(static_cast<std::int32_t>(chunk.end()));
  rope_length_.push_back(static_cast<std::int32_t>(std::max(sequence.prompt_length, chunk.end())));
  block_tables_.insert(block_tables_.end(), sequence.blocks.begin(), sequence.blocks.end());
  block_tables_.resize(context_.size() * static_cast<std::size_t>(max_blocks_), -1);
}

BatchView Batch::view() const {
  BatchView view;
  view.tokens = static_cast<int>(token_ids_.size());
  view.sequences = static_cast<int>(context_.size());
  view.token_ids = token_ids_;
  view.positions = positions_;
  view.q_start = q_start_;
  view.context = context_;
  view.rope_length = rope_length_;
  view.block_tables = block_tables_;
  view.max_blocks = static_cast<int>(max_blocks_);
  return view;
}

}  // namespace bittern::engine
