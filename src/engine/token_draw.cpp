// Tiers of candidates: first the few tokens close to the best, then more, all of them only where these do not decide
// every filter. Each tier gives the same answer, the first only sooner.
#include "engine/token_draw.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "engine/logits.h"

namespace bittern::engine {
namespace {

// How far below the best logit a tier reaches, in units of the temperature. Usually e^-8 holds a few hundred tokens and
// almost all of the mass.
constexpr float kReaches[] = {8.0f, 16.0f};

bool filters(const SamplingParams& p) { return p.top_k > 0 || p.top_p < 1.0 || p.min_p > 0.0; }

}  // namespace

TokenDraw::TokenDraw(std::int64_t vocab) {
  const auto n = static_cast<std::size_t>(vocab);
  ids_.reserve(n);
  logits_.reserve(n);
  weights_.reserve(n);
  ranked_.reserve(n);
}

bool TokenDraw::outranks(const Ranked& a, const Ranked& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

std::int32_t TokenDraw::draw(std::span<const float> logits, float max, const SamplingParams& params, double uniform) {
  gather(logits, max, params);
  if (!filters(params)) return pick(nullptr, uniform);
  const Ranked last = cut(params);
  return pick(&last, uniform);
}

void TokenDraw::gather(std::span<const float> logits, float max, const SamplingParams& params) {
  const float inverse = static_cast<float>(1.0 / params.temperature);
  const bool needs_total = params.top_p < 1.0 && params.top_k == 0;
  total_ = needs_total ? sum_exp(logits, max, inverse) : 0;
  if (filters(params)) {
    for (const float reach : kReaches) {
      collect(logits, max, max - reach * static_cast<float>(params.temperature), inverse);
      if (covers(params, reach)) return;
    }
  }
  collect(logits, max, std::numeric_limits<float>::lowest(), inverse);
}

void TokenDraw::collect(std::span<const float> logits, float max, float floor, float inverse_temperature) {
  ids_.clear();
  gather_at_least(logits, floor, ids_);
  logits_.resize(ids_.size());
  weights_.resize(ids_.size());
  for (std::size_t i = 0; i < ids_.size(); ++i) logits_[i] = logits[static_cast<std::size_t>(ids_[i])];
  exp_weights(weights_, logits_, max, inverse_temperature);
}

// True when no token outside the candidates can pass the first filter, which all later ones only narrow.
bool TokenDraw::covers(const SamplingParams& params, float reach) const {
  if (params.top_k > 0) return ids_.size() >= static_cast<std::size_t>(params.top_k);
  if (params.min_p > 1.01 * std::exp(-reach)) return true;  // with room for the rounding of weights
  return params.top_p < 1.0 && std::accumulate(weights_.begin(), weights_.end(), 0.0) >= params.top_p * total_;
}

// The lowest-ranked token that passes top_k, then top_p, then min_p.
TokenDraw::Ranked TokenDraw::cut(const SamplingParams& params) {
  ranked_.clear();
  for (std::size_t i = 0; i < ids_.size(); ++i) ranked_.push_back({logits_[i], ids_[i], weights_[i]});
  std::size_t count = ranked_.size();
  if (params.top_k > 0 && static_cast<std::size_t>(params.top_k) < count) {
    count = static_cast<std::size_t>(params.top_k);
    std::nth_element(ranked_.begin(), ranked_.begin() + params.top_k, ranked_.end(), outranks);
  }
  const auto end = [&] { return ranked_.begin() + static_cast<std::ptrdiff_t>(count); };
  if (params.top_p < 1.0) {
    const auto add = [](double sum, const Ranked& r) { return sum + r.weight; };
    const double mass = params.top_k > 0 ? std::accumulate(ranked_.begin(), end(), 0.0, add) : total_;
    count = nucleus(count, params.top_p * mass);
  }
  if (params.min_p > 0.0) {
    const auto passes = [&](const Ranked& r) { return r.weight >= params.min_p; };  // the best has weight 1
    count = static_cast<std::size_t>(std::partition(ranked_.begin(), end(), passes) - ranked_.begin());
  }
  return *std::max_element(ranked_.begin(), end(), outranks);
}

// Size of the shortest prefix of the ranking whose mass reaches `target`, by bisection with partial selection: each
// round looks at half of what the last one did, so the whole is linear. The prefix is moved to the front.
std::size_t TokenDraw::nucleus(std::size_t count, double target) {
  std::size_t begin = 0;
  std::size_t end = count;
  while (end - begin > 1) {
    const std::size_t middle = begin + (end - begin) / 2;
    const auto at = [&](std::size_t i) { return ranked_.begin() + static_cast<std::ptrdiff_t>(i); };
    std::nth_element(at(begin), at(middle), at(end), outranks);
    double mass = 0;
    for (std::size_t i = begin; i < middle; ++i) mass += ranked_[i].weight;
    if (mass >= target) {
      end = middle;
    } else {
      target -= mass;
      begin = middle;
    }
  }
  return end;
}

std::int32_t TokenDraw::pick(const Ranked* last, double uniform) const {
  const auto kept = [&](std::size_t i) {
    return last == nullptr || !outranks(*last, {logits_[i], ids_[i], weights_[i]});
  };
  double mass = 0;
  for (std::size_t i = 0; i < ids_.size(); ++i) {
    if (kept(i)) mass += weights_[i];
  }
  const double target = uniform * mass;
  double sum = 0;
  std::int32_t chosen = -1;
  for (std::size_t i = 0; i < ids_.size() && sum <= target; ++i) {
    if (!kept(i) || weights_[i] == 0.0f) continue;
    sum += weights_[i];
    chosen = ids_[i];
  }
  return chosen;
}

}  // namespace bittern::engine
