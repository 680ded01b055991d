// TokenDraw: one draw from the distribution that temperature, top_k, top_p and min_p leave of a row of logits.
// Tokens are ranked by logit, lower id first on ties; every filter keeps a prefix of that ranking, so all of them
// together are one cut, found by partial selection among the few tokens that matter: nothing sorts the vocabulary.
#pragma once

#include <bittern/request.h>

#include <cstdint>
#include <span>
#include <vector>

namespace bittern::engine {

class TokenDraw {
 public:
  /// Scratch for rows of `vocab` logits.
  explicit TokenDraw(std::int64_t vocab);

  /// The token at `uniform` (0 <= uniform < 1) of the cumulative distribution, counted in order of id. `max` is the
  /// largest logit, finite; params.temperature > 0. Tokens at -infinity are never drawn.
  std::int32_t draw(std::span<const float> logits, float max, const SamplingParams& params, double uniform);

 private:
  struct Ranked {
    float logit;
    std::int32_t id;
    float weight;  // exp((logit - max) / temperature): the probability but for a factor
  };
  static bool outranks(const Ranked& a, const Ranked& b);

  void gather(std::span<const float> logits, float max, const SamplingParams& params);
  void collect(std::span<const float> logits, float max, float floor, float inverse_temperature);
  bool covers(const SamplingParams& params, float reach) const;
  Ranked cut(const SamplingParams& params);
  std::size_t nucleus(std::size_t count, double target);
  std::int32_t pick(const Ranked* last, double uniform) const;

  // Candidates, in order of id.
  std::vector<std::int32_t> ids_;
  std::vector<float> logits_;
  std::vector<float> weights_;
  double total_ = 0;            // mass of the whole row; needed for top_p alone
  std::vector<Ranked> ranked_;  // candidates as the filters shuffle them
};

}  // namespace bittern::engine
