// Rope: rotary position embeddings (Su et al., 2021) and the ways of stretching them to longer contexts: linear
// (Chen et al., 2023), dynamic NTK, Llama 3's, YaRN (Peng et al., 2023) and LongRoPE (Ding et al., 2024).
// The angles of a step are computed once, for all layers; the rotation itself is the backend's.
#pragma once

#include <cstdint>
#include <vector>

#include "nn/ctx.h"

namespace bittern::nn {

/// Rotary scaling as config.json gives it ("rope_scaling", or transformers 5's "rope_parameters").
struct RopeConfig {
  enum class Kind : std::uint8_t { none, linear, dynamic, llama3, yarn, longrope };
  Kind kind = Kind::none;
  double theta = 10000.0;
  double factor = 1.0;
  double low_freq_factor = 1.0;                   // llama3
  double high_freq_factor = 4.0;                  // llama3
  double beta_fast = 32.0;                        // yarn
  double beta_slow = 1.0;                         // yarn
  double mscale = 0.0;                            // yarn, 0: absent
  double mscale_all_dim = 0.0;                    // yarn, 0: absent
  bool truncate = true;                           // yarn: round the correction range to integers
  double attention_factor = -1.0;                 // yarn and longrope; negative: derived from factor
  std::vector<double> short_factor, long_factor;  // longrope, (rotary_dim / 2) each
  std::int64_t original_max_positions = 0;        // context the unscaled frequencies were trained for

  /// The frequencies depend on how long the sequence is (dynamic, longrope).
  bool depends_on_length() const { return kind == Kind::dynamic || kind == Kind::longrope; }
};

/// Angle per position of each pair, (rotary_dim / 2), for a sequence of `length` tokens.
std::vector<float> rope_frequencies(const RopeConfig& config, int rotary_dim, std::int64_t length);
/// What cos and sin are multiplied by: 1 but for YaRN and LongRoPE.
float rope_attention_factor(const RopeConfig& config);

class Rope {
 public:
  Rope(RopeConfig config, int rotary_dim);
  /// Computes cos and sin of every token of the batch into the arena and points ctx at them.
  void fill(Ctx& ctx);

 private:
  const std::vector<float>& frequencies(std::int64_t length);

  RopeConfig config_;
  int rotary_dim_;
  float attention_factor_;
  std::int64_t cached_length_ = -1;
  std::vector<float> cached_;     // frequencies of cached_length_
  std::vector<float> cos_, sin_;  // (tokens, rotary_dim / 2), grown to the largest step
};

}  // namespace bittern::nn
