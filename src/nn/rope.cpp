// Rotary frequencies and the tables of one step. Frequencies are computed in double and rounded once to f32; the angle
// is the f32 product with the position, as the reference implementation computes it.
#include "nn/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace bittern::nn {
namespace {

using Kind = RopeConfig::Kind;

std::vector<double> base_frequencies(double theta, int rotary_dim) {
  std::vector<double> result(static_cast<std::size_t>(rotary_dim / 2));
  for (std::size_t i = 0; i < result.size(); ++i) {
    result[i] = std::pow(theta, -2.0 * static_cast<double>(i) / rotary_dim);
  }
  return result;
}

// NTK-aware scaling grows the base with the sequence once it is longer than the trained context.
double dynamic_theta(const RopeConfig& c, int rotary_dim, std::int64_t length) {
  const double trained = static_cast<double>(c.original_max_positions);
  const double ratio = std::max(static_cast<double>(length), trained) / trained;
  return c.theta * std::pow(c.factor * ratio - (c.factor - 1.0), rotary_dim / (rotary_dim - 2.0));
}

// Llama 3: long wavelengths are divided by the factor, short ones kept, with a linear blend between.
void scale_llama3(const RopeConfig& c, std::vector<double>& frequencies) {
  for (double& f : frequencies) {
    const double turns = static_cast<double>(c.original_max_positions) * f / (2.0 * std::numbers::pi);
    const double blend = std::clamp((turns - c.low_freq_factor) / (c.high_freq_factor - c.low_freq_factor), 0.0, 1.0);
    f = (1.0 - blend) * f / c.factor + blend * f;
  }
}

// YaRN: the dimension whose wave makes `turns` turns within the trained context.
double yarn_dimension(const RopeConfig& c, int rotary_dim, double turns) {
  const double trained = static_cast<double>(c.original_max_positions);
  return rotary_dim * std::log(trained / (turns * 2.0 * std::numbers::pi)) / (2.0 * std::log(c.theta));
}

void scale_yarn(const RopeConfig& c, int rotary_dim, std::vector<double>& frequencies) {
  double low = yarn_dimension(c, rotary_dim, c.beta_fast);
  double high = yarn_dimension(c, rotary_dim, c.beta_slow);
  if (c.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, rotary_dim - 1.0);
  if (low == high) high += 0.001;  // keeps the ramp finite
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    frequencies[i] = frequencies[i] / c.factor * ramp + frequencies[i] * (1.0 - ramp);
  }
}

void scale_longrope(const RopeConfig& c, std::int64_t length, std::vector<double>& frequencies) {
  const std::vector<double>& by = length > c.original_max_positions ? c.long_factor : c.short_factor;
  for (std::size_t i = 0; i < frequencies.size(); ++i) frequencies[i] /= by[i];
}

double yarn_mscale(double factor, double mscale) { return factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0; }

}  // namespace

std::vector<float> rope_frequencies(const RopeConfig& c, int rotary_dim, std::int64_t length) {
  const double theta = c.kind == Kind::dynamic ? dynamic_theta(c, rotary_dim, length) : c.theta;
  std::vector<double> frequencies = base_frequencies(theta, rotary_dim);
  switch (c.kind) {
    case Kind::none:
    case Kind::dynamic: break;
    case Kind::linear:
      for (double& f : frequencies) f /= c.factor;
      break;
    case Kind::llama3: scale_llama3(c, frequencies); break;
    case Kind::yarn: scale_yarn(c, rotary_dim, frequencies); break;
    case Kind::longrope: scale_longrope(c, length, frequencies); break;
  }
  return {frequencies.begin(), frequencies.end()};
}

float rope_attention_factor(const RopeConfig& c) {
  if (c.kind != Kind::yarn && c.kind != Kind::longrope) return 1.0F;
  if (c.attention_factor >= 0) return static_cast<float>(c.attention_factor);
  if (c.kind == Kind::longrope) {
    if (c.factor <= 1.0) return 1.0F;
    return static_cast<float>(
        std::sqrt(1.0 + std::log(c.factor) / std::log(static_cast<double>(c.original_max_positions))));
  }
  if (c.mscale > 0 && c.mscale_all_dim > 0) {
    return static_cast<float>(yarn_mscale(c.factor, c.mscale) / yarn_mscale(c.factor, c.mscale_all_dim));
  }
  return static_cast<float>(yarn_mscale(c.factor, 1.0));
}

Rope::Rope(RopeConfig config, int rotary_dim)
    : config_(std::move(config)), rotary_dim_(rotary_dim), attention_factor_(rope_attention_factor(config_)) {}

const std::vector<float>& Rope::frequencies(std::int64_t length) {
  const std::int64_t key = config_.depends_on_length() ? length : 0;
  if (key != cached_length_) {
    cached_ = rope_frequencies(config_, rotary_dim_, length);
    cached_length_ = key;
  }
  return cached_;
}

void Rope::fill(Ctx& ctx) {
  const BatchView& batch = ctx.batch;
  const std::size_t half = static_cast<std::size_t>(rotary_dim_ / 2);
  const std::size_t size = static_cast<std::size_t>(batch.tokens) * half;
  if (cos_.size() < size) {
    cos_.resize(size);
    sin_.resize(size);
  }
  for (std::size_t s = 0; s < static_cast<std::size_t>(batch.sequences); ++s) {
    const std::vector<float>& freq = frequencies(batch.rope_length[s]);
    for (auto t = static_cast<std::size_t>(batch.q_start[s]); t < static_cast<std::size_t>(batch.q_start[s + 1]); ++t) {
      for (std::size_t i = 0; i < half; ++i) {
        const float angle = freq[i] * static_cast<float>(batch.positions[t]);
        cos_[t * half + i] = std::cos(angle) * attention_factor_;
        sin_[t * half + i] = std::sin(angle) * attention_factor_;
      }
    }
  }
  ctx.rope_cos = ctx.arena.take(DType::f32, batch.tokens, rotary_dim_ / 2);
  ctx.rope_sin = ctx.arena.take(DType::f32, batch.tokens, rotary_dim_ / 2);
  const auto bytes = static_cast<std::int64_t>(size * sizeof(float));
  ctx.backend.copy_to_device(ctx.rope_cos.data, cos_.data(), bytes);
  ctx.backend.copy_to_device(ctx.rope_sin.data, sin_.data(), bytes);
}

}  // namespace bittern::nn
