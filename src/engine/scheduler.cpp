// schedule() = keep what runs running, let in who fits, then hand out the token budget. Blocks are settled in the first
// two parts; the last one only counts tokens and rows.
#include "engine/scheduler.h"

#include <algorithm>
#include <span>

#include "base/check.h"

namespace bittern::engine {
namespace {

bool before(const Sequence* a, const Sequence* b) { return outranks(*a, *b); }

void insert_ranked(std::vector<Sequence*>& list, Sequence& sequence) {
  list.insert(std::upper_bound(list.begin(), list.end(), &sequence, before), &sequence);
}

void erase_ranked(std::vector<Sequence*>& list, const Sequence& sequence) {
  const auto at = std::find(list.begin(), list.end(), &sequence);
  BITTERN_CHECK(at != list.end(), "sequence {}/{} is not where its state says", sequence.arrival, sequence.sample);
  list.erase(at);
}

}  // namespace

bool outranks(const Sequence& a, const Sequence& b) {
  if (a.priority != b.priority) return a.priority > b.priority;
  if (a.turn != b.turn) return a.turn < b.turn;
  if (a.arrival != b.arrival) return a.arrival < b.arrival;
  return a.sample < b.sample;
}

Scheduler::Scheduler(CacheManager& cache, SchedulerLimits limits) : cache_(cache), limits_(limits) {
  BITTERN_CHECK(limits.max_sequences > 0 && limits.max_step_tokens >= limits.max_sequences,
                "a step of {} tokens cannot serve {} sequences", limits.max_step_tokens, limits.max_sequences);
  BITTERN_CHECK(limits.max_logit_rows > limits.max_sequences);
  running_.reserve(static_cast<std::size_t>(limits.max_sequences));
  plan_.chunks.reserve(static_cast<std::size_t>(limits.max_sequences));
}

void Scheduler::add(Sequence& sequence) {
  BITTERN_CHECK(sequence.group != nullptr && sequence.prompt_length > 0 && sequence.limit > sequence.length());
  BITTERN_CHECK(cache_.blocks_for(sequence.limit) <= cache_.total(), "a sequence of {} tokens can never fit",
                sequence.limit);
  sequence.state = SequenceState::waiting;
  sequence.group->members.push_back(&sequence);
  insert_ranked(waiting_, sequence);
}

void Scheduler::remove(Sequence& sequence) {
  erase_ranked(sequence.state == SequenceState::running ? running_ : waiting_, sequence);
  std::erase(sequence.group->members, &sequence);
  cache_.release(sequence.blocks);
  sequence.state = SequenceState::finished;
}

const Plan& Scheduler::schedule() {
  plan_.clear();
  grow_running();
  admit_waiting();
  assign_tokens();
  check_progress();
  return plan_;
}

void Scheduler::advance(const Chunk& chunk, int accepted) {
  BITTERN_CHECK(chunk.begin == chunk.sequence->computed && accepted <= chunk.drafted);
  chunk.sequence->computed += chunk.tokens - chunk.drafted + accepted;
  remember_full_blocks(*chunk.sequence);
}

// A sequence that follows blocks the cache does not know (its siblings' while the cache is off) stays unknown itself.
void Scheduler::remember_full_blocks(Sequence& sequence) {
  if (!limits_.prefix_cache) return;
  const auto size = static_cast<std::size_t>(cache_.block_tokens());
  const std::int64_t settled = std::min(sequence.computed, sequence.length());  // guesses that were right come later
  for (; sequence.known_blocks < settled / cache_.block_tokens(); ++sequence.known_blocks) {
    const std::size_t begin = static_cast<std::size_t>(sequence.known_blocks) * size;
    cache_.remember(sequence.blocks, sequence.known_blocks, std::span(sequence.tokens).subspan(begin, size),
                    sequence.group->salt);
  }
}

// The argument of README.md, section 4, as a check of every step: were it wrong, clients would wait for ever.
void Scheduler::check_progress() const {
  if (running_.empty()) {
    BITTERN_CHECK(waiting_.empty(), "{} sequences wait and none runs", waiting_.size());
    return;
  }
  const auto is_first = [this](const Chunk& chunk) { return chunk.sequence == running_.front(); };
  BITTERN_CHECK(std::any_of(plan_.chunks.begin(), plan_.chunks.end(), is_first), "the first in rank does not advance");
}

// --- Blocks of those that run ------------------------------------------------------------------------------------

// Every running sequence gets the block its newest token needs; the lowest-ranked pay when the pool is exhausted.
void Scheduler::grow_running() {
  for (std::size_t i = 0; i < running_.size(); ++i) {
    Sequence& sequence = *running_[i];
    const std::int64_t held = static_cast<std::int64_t>(sequence.blocks.size());
    while (!cache_.extend(sequence.blocks, cache_.blocks_for(sequence.length()) - held)) {
      Sequence& victim = *running_.back();
      preempt(victim);
      if (&victim == &sequence) break;  // it was the last one itself
    }
  }
}

void Scheduler::preempt(Sequence& sequence) {
  erase_ranked(running_, sequence);
  cache_.release(sequence.blocks);
  sequence.computed = sequence.known_blocks = 0;
  ++sequence.preemptions;
  sequence.state = SequenceState::waiting;
  insert_ranked(waiting_, sequence);
  ++plan_.preemptions;
}

// --- Admission ---------------------------------------------------------------------------------------------------

// In order of rank, and nobody overtakes the first that does not fit: large requests must not starve. A sample whose
// sibling is computing their prompt steps aside, since it is about to get that work for nothing.
void Scheduler::admit_waiting() {
  std::size_t next = 0;
  while (next < waiting_.size()) {
    Sequence& sequence = *waiting_[next];
    if (sibling_is_prefilling(sequence)) {
      ++next;
    } else if (make_room(sequence)) {
      start(sequence);
    } else {
      return;
    }
  }
}

// Full blocks of the prompt, less the last token, which must be run again to get its logits.
std::int64_t Scheduler::shareable_blocks(const Sequence& sequence) const {
  return (sequence.prompt_length - 1) / cache_.block_tokens();
}

const Sequence* Scheduler::prefix_owner(const Sequence& sequence) const {
  const std::int64_t tokens = shareable_blocks(sequence) * cache_.block_tokens();
  if (tokens == 0) return nullptr;
  for (const Sequence* member : sequence.group->members) {
    if (member->state == SequenceState::running && member->computed >= tokens) return member;
  }
  return nullptr;
}

bool Scheduler::sibling_is_prefilling(const Sequence& sequence) const {
  if (shareable_blocks(sequence) == 0 || prefix_owner(sequence) != nullptr) return false;
  return std::any_of(sequence.group->members.begin(), sequence.group->members.end(),
                     [](const Sequence* member) { return member->state == SequenceState::running; });
}

// One block stays in reserve for each running sequence, so that all can grow once before anybody is preempted.
bool Scheduler::fits(const Sequence& sequence) const {
  if (running_.size() >= static_cast<std::size_t>(limits_.max_sequences)) return false;
  const std::int64_t reserve = static_cast<std::int64_t>(running_.size());
  std::int64_t needed = cache_.blocks_for(sequence.length()) + reserve;
  if (needed <= cache_.available()) return true;
  // Blocks that others hold anyway; cached ones count as available until they are shared.
  needed -= prefix_owner(sequence) != nullptr ? shareable_blocks(sequence) : known_prefix(sequence).active;
  return needed <= cache_.available();
}

// Makes place by preempting strictly lower priorities, never an equal one.
bool Scheduler::make_room(const Sequence& sequence) {
  if (fits(sequence)) return true;
  if (!room_can_be_made(sequence)) return false;
  while (!fits(sequence)) {
    if (running_.empty() || running_.back()->priority >= sequence.priority) return false;
    preempt(*running_.back());
  }
  return true;
}

// Whether preempting all lower priorities is worth it. Blocks shared among the victims are not counted, and the reserve
// is taken for those who stay: at worst the sequence waits a little longer.
bool Scheduler::room_can_be_made(const Sequence& sequence) const {
  std::int64_t blocks = cache_.available();
  std::int64_t staying = 0;
  for (const Sequence* other : running_) {
    if (other->priority >= sequence.priority) {
      ++staying;
    } else {
      blocks += cache_.exclusive(other->blocks);
    }
  }
  const bool victims = staying < static_cast<std::int64_t>(running_.size());
  return victims && staying < limits_.max_sequences && cache_.blocks_for(sequence.length()) + staying <= blocks;
}

void Scheduler::start(Sequence& sequence) {
  sequence.tokens.reserve(static_cast<std::size_t>(sequence.limit));
  sequence.blocks.reserve(static_cast<std::size_t>(cache_.blocks_for(sequence.limit)));
  if (const Sequence* owner = prefix_owner(sequence)) {
    cache_.share(owner->blocks, shareable_blocks(sequence), sequence.blocks);
    sequence.computed = shareable_blocks(sequence) * cache_.block_tokens();
    sequence.known_blocks = std::min(owner->known_blocks, shareable_blocks(sequence));
  } else if (limits_.prefix_cache) {
    start_from_cache(sequence);
  }
  sequence.cached_tokens = std::max<std::int64_t>(sequence.cached_tokens, 0);
  const std::int64_t held = static_cast<std::int64_t>(sequence.blocks.size());
  BITTERN_CHECK(cache_.extend(sequence.blocks, cache_.blocks_for(sequence.length()) - held));
  erase_ranked(waiting_, sequence);
  sequence.state = SequenceState::running;
  insert_ranked(running_, sequence);
}

// Everything known of its tokens but the last one, which must be run for its logits. What the prompt's scores or the
// pooled states still need must be run too.
CacheManager::Match Scheduler::known_prefix(const Sequence& sequence) const {
  const SampleGroup& group = *sequence.group;
  if (!limits_.prefix_cache || group.pool_all) return {};
  const bool scoring = group.score_prompt && group.scored < sequence.prompt_length;
  const std::int64_t usable = scoring ? group.scored - 1 : sequence.length() - 1;
  return cache_.match(std::span(sequence.tokens).first(static_cast<std::size_t>(usable)), group.salt);
}

void Scheduler::start_from_cache(Sequence& sequence) {
  const std::int64_t found = known_prefix(sequence).blocks;
  cache_.share_known(sequence.tokens, sequence.group->salt, found, sequence.blocks);
  sequence.known_blocks = found;
  sequence.computed = found * cache_.block_tokens();
  if (sequence.cached_tokens >= 0) return;  // not its first start
  sequence.cached_tokens = sequence.computed;
  prefix_queries_ += sequence.prompt_length;
  prefix_hits_ += sequence.computed;
}

// --- Tokens ------------------------------------------------------------------------------------------------------

// Decoding first, one token each, so that a long prompt slows nobody down for more than a step; what is left of the
// budget goes to prompts in order of rank. Every sequence keeps a row of logits for its draw; prompt scores share the
// surplus.
void Scheduler::assign_tokens() {
  const int share = draft_share();
  for (Sequence* sequence : running_) {
    if (sequence->decoding()) plan_decode(*sequence, share);
  }
  const std::int64_t surplus_rows = limits_.max_logit_rows - static_cast<std::int64_t>(running_.size());
  std::int64_t scored = 0;
  for (Sequence* sequence : running_) {
    const std::int64_t budget = limits_.max_step_tokens - plan_.tokens;
    if (sequence->decoding() || budget == 0) continue;
    const std::int64_t room = chunk_end_limit(*sequence) - sequence->computed;
    scored += plan_chunk(*sequence, std::min({sequence->pending(), budget, room}), surplus_rows - scored);
  }
}

// Drafted tokens that each sequence may run. They take what is left of a step that only decodes: while a prompt is
// being run, its tokens are the better use of the step. Sequences share evenly, so a large batch, which is bound by
// arithmetic and gains nothing from guessing, drafts little or nothing.
int Scheduler::draft_share() const {
  const auto decodes = [](const Sequence* s) { return s->decoding(); };
  if (limits_.max_draft == 0 || running_.empty() || !std::all_of(running_.begin(), running_.end(), decodes)) return 0;
  const int count = static_cast<int>(running_.size());
  const int surplus = std::min(limits_.max_logit_rows, limits_.max_step_tokens) - count;
  return std::min(surplus / count, limits_.max_draft);
}

// How much of its draft a decoding sequence runs: within its share and its limit, while one rope length serves all of
// it, and where blocks for it are there without touching the reserve.
int Scheduler::runnable_draft(Sequence& sequence, int share) {
  const std::int64_t length = sequence.length();
  std::int64_t count = std::min<std::int64_t>(std::ssize(sequence.draft), share);
  count = std::min({count, sequence.limit - length - 1, chunk_end_limit(sequence) - length});
  if (count <= 0) return 0;
  const std::int64_t missing = cache_.blocks_for(length + count) - std::ssize(sequence.blocks);
  if (missing > 0 && missing + std::ssize(running_) <= cache_.available()) cache_.extend(sequence.blocks, missing);
  const std::int64_t room = std::ssize(sequence.blocks) * cache_.block_tokens() - length;
  return static_cast<int>(std::min(count, room));
}

void Scheduler::plan_decode(Sequence& sequence, int share) {
  const int drafted = runnable_draft(sequence, share);
  plan_chunk(sequence, 1, 0);
  Chunk& chunk = plan_.chunks.back();
  chunk.drafted = drafted;
  chunk.tokens += drafted;
  plan_.tokens += drafted;
  plan_.rows += drafted;
}

// Tokens of one chunk see one rope length (see rope_threshold): all of the prompt sees the prompt's.
std::int64_t Scheduler::chunk_end_limit(const Sequence& sequence) const {
  const std::int64_t uniform = std::max(sequence.prompt_length, limits_.rope_threshold);
  return sequence.computed < uniform ? uniform : sequence.computed + 1;
}

// Adds a chunk of at most `tokens` tokens, fewer when its prompt scores would need more than `score_rows` rows.
// Returns the rows it took for them.
int Scheduler::plan_chunk(Sequence& sequence, std::int64_t tokens, std::int64_t score_rows) {
  Chunk chunk{&sequence, sequence.computed};
  std::int64_t score_end = 0;
  if (sequence.group->score_prompt) {
    const std::int64_t last = sequence.prompt_length - 1;  // position p scores the prompt's token p + 1
    chunk.score_begin = std::max(chunk.begin, sequence.group->scored - 1);
    if (chunk.score_begin + score_rows < last) tokens = std::min(tokens, chunk.score_begin + score_rows - chunk.begin);
    score_end = std::min(chunk.begin + tokens, last);
  }
  if (tokens == 0) return 0;
  chunk.tokens = static_cast<int>(tokens);
  chunk.scored = static_cast<int>(std::max<std::int64_t>(score_end - chunk.score_begin, 0));
  chunk.samples = sequence.group->draws && chunk.end() == sequence.length();
  plan_.tokens += chunk.tokens;
  plan_.rows += chunk.rows();
  plan_.chunks.push_back(chunk);
  return chunk.scored;
}

}  // namespace bittern::engine
