// The steps of Sampler, each as one pass over what it touches: penalties over the sequence's own tokens, everything
// else over the row. The row is copied only when something changes it.
#include "engine/sampler.h"

#include <bittern/error.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "base/random.h"
#include "engine/logits.h"

namespace bittern::engine {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

bool withholds_end(const SamplingContext& c) { return c.generated() < c.params.min_tokens && !c.end_ids.empty(); }

bool changes_logits(const SamplingContext& c) {
  const SamplingParams& p = c.params;
  return !p.logit_bias.empty() || p.repetition_penalty != 1.0 || p.presence_penalty != 0.0 ||
         p.frequency_penalty != 0.0 || withholds_end(c) || c.mask != nullptr;
}

SampledToken failure(std::string reason) {
  SampledToken result;
  result.error = std::move(reason);
  return result;
}

SampledToken invalid_logits() {
  return failure("the model produced logits that are NaN or infinite; its weights or the KV cache are damaged");
}

void add_logprobs(SampledToken& result, std::span<const float> logits, float max, int alternatives) {
  const double norm = log_sum_exp(logits, max);
  result.logprob = static_cast<float>(logits[static_cast<std::size_t>(result.token)] - norm);
  result.top = most_likely(logits, alternatives, norm);
}

}  // namespace

// A block of four words for each position: draws of neighbours never share one.
double uniform_at(std::uint64_t seed, int sample, std::int64_t position) {
  return Random(seed, static_cast<std::uint64_t>(sample), static_cast<std::uint64_t>(position) * 4).next_double();
}

Sampler::Sampler(std::int64_t vocab)
    : adjusted_(static_cast<std::size_t>(vocab)),
      counts_(static_cast<std::size_t>(vocab)),
      allowed_((static_cast<std::size_t>(vocab) + 31) / 32),
      draw_(vocab) {}

SampledToken Sampler::sample(std::span<const float> logits, const SamplingContext& context) {
  BITTERN_CHECK(logits.size() == adjusted_.size(), "a row has {} logits, the vocabulary {}", logits.size(),
                adjusted_.size());
  const RowScan raw = scan_row(logits);
  if (!raw.valid || raw.max == kNever) return invalid_logits();
  std::span<const float> row = logits;
  float max = raw.max;
  if (changes_logits(context)) {
    std::copy(logits.begin(), logits.end(), adjusted_.begin());
    adjust(context);
    row = adjusted_;
    const RowScan scan = scan_row(row);
    if (!scan.valid) return failure("the penalties drove a logit beyond the range of f32; use milder ones");
    max = scan.max;
    if (max == kNever)
      return failure("no token is allowed next: the mask and min_tokens together rule out all of them");
  }
  SampledToken result;
  result.token = choose(row, max, context);
  if (context.params.logprobs >= 0) add_logprobs(result, logits, raw.max, context.params.logprobs);
  if (context.mask != nullptr) context.mask->accept(result.token);
  return result;
}

SampledToken Sampler::score(std::span<const float> logits, std::int32_t token, int alternatives) {
  const RowScan raw = scan_row(logits);
  if (!raw.valid || raw.max == kNever) return invalid_logits();
  SampledToken result;
  result.token = token;
  add_logprobs(result, logits, raw.max, alternatives);
  return result;
}

std::int32_t Sampler::choose(std::span<const float> logits, float max, const SamplingContext& context) {
  const SamplingParams& p = context.params;
  if (p.temperature == 0.0 || p.top_k == 1) return first_with(logits, max);
  const auto position = static_cast<std::int64_t>(context.tokens.size());
  return draw_.draw(logits, max, p, uniform_at(context.seed, context.sample, position));
}

void Sampler::adjust(const SamplingContext& context) {
  apply_bias(context.params);
  apply_repetition(context);
  apply_presence_and_frequency(context);
  if (withholds_end(context)) {
    for (std::int32_t id : context.end_ids) adjusted_[static_cast<std::size_t>(id)] = kNever;
  }
  if (context.mask != nullptr) apply_mask(*context.mask);
}

void Sampler::apply_bias(const SamplingParams& params) {
  for (const auto& [token, bias] : params.logit_bias) adjusted_[static_cast<std::size_t>(token)] += bias;
}

// CTRL's penalty (Keskar et al., 2019): once per distinct token, whatever its count.
void Sampler::apply_repetition(const SamplingContext& context) {
  if (context.params.repetition_penalty == 1.0) return;
  const float penalty = static_cast<float>(context.params.repetition_penalty);
  for (std::int32_t token : context.tokens) {
    const auto t = static_cast<std::size_t>(token);
    if (counts_[t]++ == 0) adjusted_[t] = adjusted_[t] > 0 ? adjusted_[t] / penalty : adjusted_[t] * penalty;
  }
  for (std::int32_t token : context.tokens) counts_[static_cast<std::size_t>(token)] = 0;
}

void Sampler::apply_presence_and_frequency(const SamplingContext& context) {
  const float presence = static_cast<float>(context.params.presence_penalty);
  const float frequency = static_cast<float>(context.params.frequency_penalty);
  if (presence == 0.0f && frequency == 0.0f) return;
  for (std::int32_t token : context.output()) ++counts_[static_cast<std::size_t>(token)];
  for (std::int32_t token : context.output()) {
    const auto t = static_cast<std::size_t>(token);
    if (counts_[t] == 0) continue;  // done at its first occurrence
    adjusted_[t] -= frequency * static_cast<float>(counts_[t]) + presence;
    counts_[t] = 0;
  }
}

void Sampler::apply_mask(TokenMask& mask) {
  std::fill(allowed_.begin(), allowed_.end(), ~0u);
  mask.restrict(allowed_);
  if (allowed_.size() * 32 < adjusted_.size()) {
    throw Error(ErrorCode::internal, fmt::format("the token mask shrank its bits to {} words", allowed_.size()));
  }
  for (std::size_t word = 0; word < allowed_.size(); ++word) {
    for (std::uint32_t banned = ~allowed_[word]; banned != 0; banned &= banned - 1) {
      const std::size_t token = word * 32 + static_cast<std::size_t>(std::countr_zero(banned));
      if (token < adjusted_.size()) adjusted_[token] = kNever;
    }
  }
}

}  // namespace bittern::engine
