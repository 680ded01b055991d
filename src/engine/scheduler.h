// Scheduler: decides, once per step, which sequences run and how many tokens of each: continuous batching with chunked
// prefill, admission by free blocks, preemption by recompute. Pure host code over values: it knows no device, no clock,
// no client and no logits. Why nobody starves is argued in README.md, section 4.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "engine/cache_manager.h"
#include "engine/plan.h"
#include "engine/sequence.h"

namespace bittern::engine {

struct SchedulerLimits {
  int max_sequences = 16;     // sequences of one step
  int max_step_tokens = 512;  // tokens of one step, at least max_sequences
  int max_logit_rows = 17;    // rows of logits of one step, more than max_sequences
  int max_draft = 0;          // tokens of a draft run in one step, of one sequence; 0: none are made
  /// Up to this length the rotary angles do not depend on the sequence's length; beyond it generated tokens are
  /// recomputed one by one, each with the length it was first computed at, so that preemption changes no bit.
  std::int64_t rope_threshold = std::numeric_limits<std::int64_t>::max();
  bool prefix_cache = false;
};

class Scheduler {
 public:
  Scheduler(CacheManager& cache, SchedulerLimits limits);

  /// Takes a sequence into service: it waits. Its `limit` tokens must fit the pool; it must stay in place until
  /// removed.
  void add(Sequence& sequence);
  /// Ends its service: its blocks are available on return.
  void remove(Sequence& sequence);

  /// Decides the next step. The plan stays valid until the next call, and must be run, or its sequences removed, before
  /// it.
  const Plan& schedule();
  /// Records that the chunk's K and V are in the cache; of its draft, those of the first `accepted` tokens count.
  void advance(const Chunk& chunk, int accepted = 0);

  const std::vector<Sequence*>& running() const { return running_; }  // in order of rank
  const std::vector<Sequence*>& waiting() const { return waiting_; }  // in order of rank
  /// Tokens of prompts that were looked up in the prefix cache at their first start, and found.
  std::int64_t prefix_queries() const { return prefix_queries_; }
  std::int64_t prefix_hits() const { return prefix_hits_; }
  bool idle() const { return running_.empty() && waiting_.empty(); }

  /// Aborts, saying what is wrong, unless every invariant of README.md section 3 holds. For tests and idle moments.
  void check_integrity() const;

 private:
  void grow_running();
  void admit_waiting();
  void assign_tokens();
  void check_progress() const;

  bool sibling_is_prefilling(const Sequence& sequence) const;
  const Sequence* prefix_owner(const Sequence& sequence) const;
  std::int64_t shareable_blocks(const Sequence& sequence) const;
  CacheManager::Match known_prefix(const Sequence& sequence) const;
  bool fits(const Sequence& sequence) const;
  bool make_room(const Sequence& sequence);
  bool room_can_be_made(const Sequence& sequence) const;
  void start(Sequence& sequence);
  void start_from_cache(Sequence& sequence);
  void remember_full_blocks(Sequence& sequence);
  void preempt(Sequence& sequence);

  std::int64_t chunk_end_limit(const Sequence& sequence) const;
  int draft_share() const;
  int runnable_draft(Sequence& sequence, int share);
  void plan_decode(Sequence& sequence, int share);
  int plan_chunk(Sequence& sequence, std::int64_t tokens, std::int64_t score_rows);

  CacheManager& cache_;
  SchedulerLimits limits_;
  std::vector<Sequence*> running_;
  std::vector<Sequence*> waiting_;
  Plan plan_;
  std::int64_t prefix_queries_ = 0, prefix_hits_ = 0;
};

}  // namespace bittern::engine
