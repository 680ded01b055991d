// The phases of a step, in the order they run. A failure of one request ends that request; a failure of the runner ends
// all that run, since nobody can say what it wrote; neither ends the engine.
#include "engine/engine_core.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <utility>

#include "base/check.h"

namespace bittern::engine {
namespace {

bool contains(const std::vector<std::int32_t>& ids, std::int32_t id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

TokenEvent end_event(FinishReason reason, std::string error = {}) {
  TokenEvent event;
  event.finish = reason;
  event.error = std::move(error);
  return event;
}

TokenEvent token_event(SampledToken& drawn) {
  TokenEvent event;
  event.token = drawn.token;
  event.logprob = drawn.logprob;
  event.top = std::move(drawn.top);
  return event;
}

using Clock = RequestProgress::Clock;

std::int64_t nanoseconds(Clock::time_point time) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
}

std::vector<std::int32_t> ending_ids(const SamplingParams& sampling, const std::vector<std::int32_t>& eos_ids) {
  std::vector<std::int32_t> ids = sampling.stop_ids;
  if (!sampling.ignore_eos) ids.insert(ids.end(), eos_ids.begin(), eos_ids.end());
  return ids;
}

}  // namespace

EngineCore::EngineCore(const CoreConfig& config, StepRunner& runner, Inbox& inbox)
    : config_(config),
      runner_(runner),
      inbox_(inbox),
      cache_(config.kv_blocks, config.block_tokens),
      scheduler_(cache_, config.limits),
      batch_(config.limits.max_step_tokens, config.limits.max_sequences, cache_.blocks_for(config.context),
             config.limits.max_logit_rows),
      sampler_(config.vocab) {
  BITTERN_CHECK(cache_.blocks_for(config.context) <= cache_.total());
  drawn_.resize(static_cast<std::size_t>(config.limits.max_sequences));
  for (Drawn& drawn : drawn_) drawn.tokens.reserve(static_cast<std::size_t>(config.limits.max_draft) + 1);
  counters_.blocks_total = cache_.total();
  publish_stats();
}

void EngineCore::step() {
  admit();
  draft();
  const Plan& plan = scheduler_.schedule();
  const StepClock clock(*this, plan);
  if (launch(plan)) {
    collect(plan);
    commit(plan);
  }
  notify();
}

EngineCore::StepClock::StepClock(EngineCore& core, const Plan& plan) : core_(core) {
  core.step_sequences_ = static_cast<int>(plan.chunks.size());
  core.step_tokens_ = plan.tokens;
  ++core.step_number_;
  core.step_begin_ = nanoseconds(Clock::now());
}

// The number is read on both sides of the time: a step that began in between has not been running for long.
EngineCore::RunningStep EngineCore::running_step() const {
  RunningStep step;
  step.number = step_number_;
  const std::int64_t begin = step_begin_;
  step.sequences = step_sequences_;
  step.tokens = step_tokens_;
  if (begin == 0 || step.number != step_number_) return step;
  step.seconds = static_cast<double>(nanoseconds(Clock::now()) - begin) * 1e-9;
  return step;
}

// --- admit: what arrived since the last step ---------------------------------------------------------------------

void EngineCore::admit() {
  bool cancels = false;
  {
    const std::lock_guard lock(stats_mutex_);  // so that no snapshot misses a request on its way from inbox to waiting
    cancels = inbox_.take(mail_);
    for (const auto& channel : mail_) stats_.waiting += channel->request().n;
  }
  for (auto& channel : mail_) add(std::move(channel));
  mail_.clear();
  if (cancels) cancel_as_asked();
}

void EngineCore::add(std::shared_ptr<RequestChannel> channel) {
  auto active = std::make_unique<ActiveRequest>();
  const Request& request = channel->request();
  active->channel = std::move(channel);
  active->end_ids = ending_ids(request.sampling, config_.eos_ids);
  if (request.sampling.prompt_logprobs >= 0) {
    active->group.score_prompt = true;
    active->prompt_scores.emplace_back().token = request.prompt.front();  // nothing precedes it: no score
  }
  active->sequences.resize(static_cast<std::size_t>(request.n));
  active->group.draws = request.pooling == Pooling::none && request.sampling.max_tokens > 0;
  active->group.pool_all = request.pooling == Pooling::mean;
  if (request.pooling != Pooling::none) active->pooled.resize(static_cast<std::size_t>(config_.hidden));
  if (!request.cache_salt.empty()) active->group.salt = std::make_shared<const std::string>(request.cache_salt);
  const auto prompt = static_cast<std::int64_t>(request.prompt.size());
  const std::int64_t most = active->group.draws ? request.sampling.max_tokens : 1;
  const std::int64_t turn = turn_of(request.client);
  for (int i = 0; i < request.n; ++i) {
    Sequence& sequence = active->sequences[static_cast<std::size_t>(i)];
    sequence.arrival = arrivals_;
    sequence.turn = turn;
    sequence.priority = request.priority;
    sequence.sample = i;
    sequence.tokens = request.prompt;
    sequence.draft.reserve(static_cast<std::size_t>(config_.limits.max_draft));
    sequence.prompt_length = prompt;
    sequence.limit = std::min(prompt + most, config_.context);
    sequence.group = &active->group;
    sequence.request = active.get();
    scheduler_.add(sequence);
  }
  ++arrivals_;
  requests_.push_back(std::move(active));
}

// Fair queuing: the k-th request that a client adds to those it has waiting comes k turns after the one served last, so
// clients with equal priorities take turns. The turns also go on with arrivals, which bounds how many new clients can
// come before one that waits.
std::int64_t EngineCore::turn_of(const std::string& client) {
  constexpr std::int64_t kArrivalsOfATurn = 256;
  constexpr std::size_t kRemembered = 4096;
  turn_ = std::max(turn_, arrivals_ / kArrivalsOfATurn);
  if (last_turn_.size() > kRemembered) std::erase_if(last_turn_, [this](const auto& c) { return c.second <= turn_; });
  std::int64_t& last = last_turn_[client];
  return last = std::max(turn_, last + 1);
}

void EngineCore::cancel_as_asked() {
  std::vector<Sequence*> cancelled;
  for (const auto& request : requests_) {
    for (Sequence* sequence : request->group.members) {
      if (request->channel->cancel_requested(sequence->sample)) cancelled.push_back(sequence);
    }
  }
  finish_all(std::move(cancelled), FinishReason::cancelled, {});
}

// --- draft: guesses to run beside the next token ------------------------------------------------------------------

void EngineCore::draft() {
  if (config_.limits.max_draft == 0) return;
  for (Sequence* sequence : scheduler_.running()) {
    sequence->draft.clear();
    if (sequence->decoding()) sequence->lookup.propose(sequence->tokens, config_.limits.max_draft, sequence->draft);
  }
}

// --- launch: run the plan ----------------------------------------------------------------------------------------

bool EngineCore::launch(const Plan& plan) {
  counters_.preemptions += plan.preemptions;
  if (plan.chunks.empty()) return false;
  batch_.assign(plan);
  try {
    logits_ = runner_.step(batch_.view(), batch_.logit_rows());
  } catch (const std::exception& error) {
    finish_all(scheduler_.running(), FinishReason::failed, std::string("the step failed: ") + error.what());
    return false;
  }
  BITTERN_CHECK(logits_.size() == static_cast<std::size_t>(plan.rows * config_.vocab),
                "a step of {} rows gave {} logits", plan.rows, logits_.size());
  return true;
}

// --- collect: rows of logits become tokens and prompt scores -----------------------------------------------------

void EngineCore::collect(const Plan& plan) {
  const auto vocab = static_cast<std::size_t>(config_.vocab);
  std::size_t row = 0;
  std::int64_t first_token = 0;
  for (std::size_t i = 0; i < plan.chunks.size(); ++i) {
    const Chunk& chunk = plan.chunks[i];
    const auto scored = static_cast<std::size_t>(chunk.scored);
    drawn_[i].tokens.clear();
    drawn_[i].error = chunk.sequence->request->pooled.empty()
                          ? score_prompt(chunk, logits_.subspan(row * vocab, scored * vocab))
                          : pool(chunk, first_token);
    first_token += chunk.tokens;
    const auto draws = static_cast<std::size_t>(chunk.draws());
    if (drawn_[i].error.empty()) draw(chunk, logits_.subspan((row + scored) * vocab, draws * vocab), drawn_[i]);
    row += scored + draws;
  }
}

// The rows behind the first are the model's only if the guesses before them are what was drawn. So each draw sees the
// tokens, the penalties and the mask that it would see without a draft, and an answer does not depend on guesses.
void EngineCore::draw(const Chunk& chunk, std::span<const float> rows, Drawn& drawn) {
  Sequence& sequence = *chunk.sequence;
  const std::size_t known = sequence.tokens.size(), vocab = static_cast<std::size_t>(config_.vocab);
  for (int i = 0; i < chunk.draws(); ++i) {
    SampledToken next = draw_one(sequence, rows.subspan(static_cast<std::size_t>(i) * vocab, vocab));
    drawn.error = std::move(next.error);
    if (!drawn.error.empty()) break;
    const std::int32_t token = next.token;
    drawn.tokens.push_back(std::move(next));
    const bool guessed = i < chunk.drafted && sequence.draft[static_cast<std::size_t>(i)] == token;
    if (!guessed || contains(sequence.request->end_ids, token)) break;
    sequence.tokens.push_back(token);
  }
  sequence.tokens.resize(known);  // appending them is commit's
}

// Sums in order of position, so that the bits do not depend on how the prompt was cut into chunks. Returns what was
// wrong with the states, or nothing.
std::string EngineCore::pool(const Chunk& chunk, std::int64_t first_row) {
  std::vector<double>& pooled = chunk.sequence->request->pooled;
  if (chunk.begin == 0) std::fill(pooled.begin(), pooled.end(), 0.0);  // again, after a preemption
  const bool last = chunk.sequence->request->request().pooling == Pooling::last;
  if (last && chunk.end() < chunk.sequence->length()) return {};
  const std::int64_t rows = last ? 1 : chunk.tokens;
  states_.resize(static_cast<std::size_t>(rows * config_.hidden));
  runner_.read_states(first_row + chunk.tokens - rows, rows, states_);
  const std::size_t hidden = pooled.size();
  for (std::size_t i = 0; i < states_.size(); ++i) pooled[i % hidden] += static_cast<double>(states_[i]);
  const bool finite = std::all_of(pooled.begin(), pooled.end(), [](double sum) { return std::isfinite(sum); });
  return finite ? "" : "the model's hidden states are not finite (NaN or infinity)";
}

// The mask is foreign code: what it throws is this request's error.
SampledToken EngineCore::draw_one(const Sequence& sequence, std::span<const float> logits) {
  const ActiveRequest& request = *sequence.request;
  const SamplingContext context{request.sampling(),
                                request.channel->seed(),
                                sequence.sample,
                                sequence.tokens,
                                sequence.prompt_length,
                                request.end_ids,
                                request.channel->mask(sequence.sample)};
  try {
    return sampler_.sample(logits, context);
  } catch (const std::exception& error) {
    SampledToken failed;
    failed.error = error.what();
    return failed;
  }
}

// Returns what was wrong with the rows, or nothing.
std::string EngineCore::score_prompt(const Chunk& chunk, std::span<const float> rows) {
  ActiveRequest& request = *chunk.sequence->request;
  const auto vocab = static_cast<std::size_t>(config_.vocab);
  for (int i = 0; i < chunk.scored; ++i) {
    const std::int64_t scored_token = chunk.score_begin + i + 1;
    if (scored_token < request.group.scored) continue;  // a sibling in the same step was first
    const std::int32_t token = chunk.sequence->tokens[static_cast<std::size_t>(scored_token)];
    SampledToken score = Sampler::score(rows.subspan(static_cast<std::size_t>(i) * vocab, vocab), token,
                                        request.sampling().prompt_logprobs);
    if (!score.error.empty()) return score.error;
    request.prompt_scores.push_back(token_event(score));
    ++request.group.scored;
  }
  return {};
}

// --- commit: sequences advance or end ----------------------------------------------------------------------------

void EngineCore::commit(const Plan& plan) {
  for (std::size_t i = 0; i < plan.chunks.size(); ++i) {
    const Chunk& chunk = plan.chunks[i];
    Sequence& sequence = *chunk.sequence;
    Drawn& drawn = drawn_[i];
    if (!std::exchange(sequence.request->stepped, true)) first_step(*sequence.request, sequence);
    // What a failed one has computed may be wrong: it is not remembered.
    if (drawn.error.empty()) scheduler_.advance(chunk, drawn.accepted());
    sequence.lookup.learn(chunk.drafted, drawn.accepted());
    counters_.drafted_tokens += chunk.drafted;
    counters_.accepted_tokens += drawn.accepted();
    counters_.prompt_tokens += std::max<std::int64_t>(std::min(chunk.end(), sequence.prompt_length) - chunk.begin, 0);
    const bool undrawn = drawn.tokens.empty() && drawn.error.empty() && sequence.pending() == 0;
    for (SampledToken& token : drawn.tokens) append(sequence, token);
    if (!drawn.error.empty()) finish(sequence, end_event(FinishReason::failed, std::move(drawn.error)));
    if (undrawn) finish_undrawn(sequence);
  }
  ++counters_.steps;
}

void EngineCore::first_step(ActiveRequest& request, const Sequence& sequence) {
  turn_ = std::max(turn_, sequence.turn);
  ++left_line_;
  left_tokens_ += sequence.prompt_length;
  request.progress.scheduled = Clock::time_point(std::chrono::nanoseconds(step_begin_.load()));
  request.progress.cached_tokens = sequence.cached_tokens;
  request.channel->publish_progress(request.progress);
}

// The end of a request that wanted scores or a vector, and no token.
void EngineCore::finish_undrawn(Sequence& sequence) {
  ActiveRequest& request = *sequence.request;
  if (request.pooled.empty()) return finish(sequence, end_event(FinishReason::length));
  const bool mean = request.request().pooling == Pooling::mean;
  const double divisor = mean ? static_cast<double>(sequence.prompt_length) : 1.0;
  std::vector<float> vector;
  vector.reserve(request.pooled.size());
  for (const double sum : request.pooled) vector.push_back(static_cast<float>(sum / divisor));
  request.channel->publish_embedding(std::move(vector));
  finish(sequence, end_event(FinishReason::stop));
}

void EngineCore::append(Sequence& sequence, SampledToken& drawn) {
  sequence.tokens.push_back(drawn.token);
  ++counters_.generated_tokens;
  TokenEvent event = token_event(drawn);
  event.sample = sequence.sample;
  if (contains(sequence.request->end_ids, event.token)) {
    event.stop_token = std::exchange(event.token, -1);
    event.finish = FinishReason::stop;
    finish(sequence, std::move(event));
    return;
  }
  deliveries_.push_back({sequence.request, std::move(event)});
  if (sequence.length() == sequence.limit) finish(sequence, end_event(FinishReason::length));
}

// Its blocks are free on return; the client hears of it in notify.
void EngineCore::finish(Sequence& sequence, TokenEvent end) {
  scheduler_.remove(sequence);
  if (end.finish == FinishReason::cancelled) {
    ++counters_.cancelled;
  } else if (end.finish == FinishReason::failed) {
    ++counters_.failed;
  } else {
    ++counters_.finished;
  }
  end.sample = sequence.sample;
  deliveries_.push_back({sequence.request, std::move(end)});
}

// Takes the list by value: finish() edits the lists it may come from.
void EngineCore::finish_all(std::vector<Sequence*> sequences, FinishReason reason, const std::string& error) {
  for (Sequence* sequence : sequences) finish(*sequence, end_event(reason, error));
}

void EngineCore::end_all(FinishReason reason, const std::string& error) {
  admit();
  finish_all(scheduler_.running(), reason, error);
  finish_all(scheduler_.waiting(), reason, error);
  notify();
}

// --- notify: clients hear of it ----------------------------------------------------------------------------------

void EngineCore::notify() {
  publish_stats();  // first, so that a client that has its last event sees it counted
  const Clock::time_point now = Clock::now();
  for (Delivery& delivery : deliveries_) {
    ActiveRequest& request = *delivery.request;
    const auto prompt = request.channel->request().prompt.size();
    if (!request.prompt_scores.empty() && request.prompt_scores.size() == prompt) {
      request.channel->publish_prompt_logprobs(std::exchange(request.prompt_scores, {}));
    }
    record_progress(request, delivery.event, now);
    request.channel->push(std::move(delivery.event));
  }
  deliveries_.clear();
  retire_finished();
}

void EngineCore::record_progress(ActiveRequest& request, const TokenEvent& event, Clock::time_point now) {
  RequestProgress& progress = request.progress;
  const bool ends = event.finish != FinishReason::none;
  const bool first = !progress.first_token && (event.token >= 0 || event.finish == FinishReason::stop);
  if (!first && !ends) return;
  if (first) progress.first_token = now;
  progress.preemptions = 0;
  for (const Sequence& sequence : request.sequences) progress.preemptions += sequence.preemptions;
  request.channel->publish_progress(progress);
}

void EngineCore::retire_finished() {
  std::erase_if(requests_, [this](const auto& request) {
    if (!request->group.members.empty()) return false;
    if (request->stepped) return true;
    ++left_line_;
    left_tokens_ += static_cast<std::int64_t>(request->request().prompt.size());
    return true;
  });
  inbox_.leave_line(std::exchange(left_line_, 0), std::exchange(left_tokens_, 0));
}

void EngineCore::publish_stats() {
  counters_.running = static_cast<std::int64_t>(scheduler_.running().size());
  counters_.waiting = static_cast<std::int64_t>(scheduler_.waiting().size());
  counters_.blocks_used = cache_.used();
  counters_.blocks_cached = cache_.cached();
  counters_.prefix_queries = scheduler_.prefix_queries();
  counters_.prefix_hits = scheduler_.prefix_hits();
  const std::lock_guard lock(stats_mutex_);
  stats_ = counters_;
}

EngineStats EngineCore::stats() const {
  const std::lock_guard lock(stats_mutex_);
  EngineStats snapshot = stats_;
  snapshot.waiting += inbox_.pending_samples();
  snapshot.waiting_tokens = inbox_.waiting_tokens();
  snapshot.stalls = stalls_;
  return snapshot;
}

void EngineCore::check_integrity() const { scheduler_.check_integrity(); }

}  // namespace bittern::engine
