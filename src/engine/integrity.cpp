// The invariants of README.md section 3, checked from scratch. Slow enough to be kept out of a step, cheap enough for
// every moment the engine falls idle and every step of a test.
#include <algorithm>
#include <vector>

#include "base/check.h"
#include "engine/scheduler.h"

namespace bittern::engine {
namespace {

void check_order(const std::vector<Sequence*>& list, SequenceState state) {
  for (std::size_t i = 0; i < list.size(); ++i) {
    BITTERN_CHECK(list[i]->state == state, "sequence {}/{}", list[i]->arrival, list[i]->sample);
    BITTERN_CHECK(i == 0 || outranks(*list[i - 1], *list[i]), "rank {} is out of order", i);
    const auto& members = list[i]->group->members;
    BITTERN_CHECK(std::count(members.begin(), members.end(), list[i]) == 1);
  }
}

void check_waiting(const Sequence& sequence) {
  BITTERN_CHECK(sequence.blocks.empty() && sequence.computed == 0, "waiting {}/{} holds {} blocks", sequence.arrival,
                sequence.sample, sequence.blocks.size());
}

// Blocks cover what was computed, and the block that is written next is nobody else's.
void check_running(const Sequence& sequence, const CacheManager& cache) {
  const auto held = static_cast<std::int64_t>(sequence.blocks.size());
  BITTERN_CHECK(sequence.computed < sequence.length() && sequence.length() < sequence.limit,
                "running {}/{} has computed {} of {} tokens, limit {}", sequence.arrival, sequence.sample,
                sequence.computed, sequence.length(), sequence.limit);
  BITTERN_CHECK(held >= cache.blocks_for(sequence.computed) && held <= cache.blocks_for(sequence.limit));
  for (std::int64_t i = sequence.computed / cache.block_tokens(); i < held; ++i) {
    const std::int32_t block = sequence.blocks[static_cast<std::size_t>(i)];
    BITTERN_CHECK(cache.references(block) == 1 && !cache.known(block), "block {} is shared and not full", block);
  }
  for (std::int64_t i = 0; i < sequence.known_blocks; ++i) {
    BITTERN_CHECK(cache.known(sequence.blocks[static_cast<std::size_t>(i)]), "block {} of {}/{} is not known", i,
                  sequence.arrival, sequence.sample);
  }
}

void check_references(const std::vector<Sequence*>& running, const CacheManager& cache) {
  std::vector<int> counted(static_cast<std::size_t>(cache.total()));
  for (const Sequence* sequence : running) {
    for (std::int32_t block : sequence->blocks) ++counted[static_cast<std::size_t>(block)];
  }
  std::int64_t unused = 0;
  for (std::int64_t block = 0; block < cache.total(); ++block) {
    const int references = cache.references(static_cast<std::int32_t>(block));
    BITTERN_CHECK(counted[static_cast<std::size_t>(block)] == references, "block {} has {} holders and a count of {}",
                  block, counted[static_cast<std::size_t>(block)], references);
    unused += references == 0 ? 1 : 0;
  }
  BITTERN_CHECK(unused == cache.available(), "{} blocks are unused, {} available", unused, cache.available());
  cache.check_integrity();
}

}  // namespace

void Scheduler::check_integrity() const {
  BITTERN_CHECK(running_.size() <= static_cast<std::size_t>(limits_.max_sequences));
  check_order(running_, SequenceState::running);
  check_order(waiting_, SequenceState::waiting);
  for (const Sequence* sequence : waiting_) check_waiting(*sequence);
  for (const Sequence* sequence : running_) check_running(*sequence, cache_);
  check_references(running_, cache_);
}

}  // namespace bittern::engine
