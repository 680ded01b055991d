// Philox4x32-10: random numbers as a pure function of (seed, stream, counter), so that a draw can be repeated anywhere
// without state: the same seed gives the same text, alone or in a batch. Not for cryptography.
// Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>

namespace bittern {

using PhiloxBlock = std::array<uint32_t, 4>;
using PhiloxKey = std::array<uint32_t, 2>;

/// Ten rounds: four random words for each counter and key.
constexpr PhiloxBlock philox4x32(PhiloxBlock counter, PhiloxKey key) {
  constexpr uint64_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
  constexpr uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;  // golden ratio, sqrt(3) - 1
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = kMultiplier0 * counter[0];
    const uint64_t product1 = kMultiplier1 * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(product0)};
    key = {key[0] + kWeyl0, key[1] + kWeyl1};
  }
  return counter;
}

/// The draws of one stream of one seed, in order. `position` addresses a draw directly: Random(s, t, n) continues where
/// Random(s, t) is after n draws of 32 bits.
class Random {
 public:
  constexpr explicit Random(uint64_t seed, uint64_t stream = 0, uint64_t position = 0)
      : seed_(seed), stream_(stream), position_(position) {}

  constexpr uint32_t next_u32() {
    if (!filled_ || position_ / 4 != block_index_) {
      block_index_ = position_ / 4;
      block_ =
          philox4x32({low(block_index_), high(block_index_), low(stream_), high(stream_)}, {low(seed_), high(seed_)});
      filled_ = true;
    }
    return block_[position_++ % 4];
  }
  constexpr uint64_t next_u64() {
    const uint64_t upper = next_u32();
    return (upper << 32) | next_u32();
  }
  /// Uniform in [0, 1), 53 bits.
  constexpr double next_double() { return static_cast<double>(next_u64() >> 11) * 0x1p-53; }
  /// Uniform in [0, 1), 24 bits.
  constexpr float next_float() { return static_cast<float>(next_u32() >> 8) * 0x1p-24f; }
  /// Uniform in [0, bound), without bias; bound > 0.
  constexpr uint32_t next_below(uint32_t bound) {
    // Lemire's method: the upper half of a product, redrawn in the few cases that would be too frequent.
    uint64_t product = uint64_t{next_u32()} * bound;
    const uint32_t threshold = (0u - bound) % bound;
    while (static_cast<uint32_t>(product) < threshold) product = uint64_t{next_u32()} * bound;
    return static_cast<uint32_t>(product >> 32);
  }
  /// Normal with mean 0 and deviation 1 (Box-Muller; two draws of 64 bits each time).
  double next_normal() {
    const double radius = std::sqrt(-2.0 * std::log(1.0 - next_double()));
    return radius * std::cos(6.283185307179586 * next_double());
  }

  constexpr uint64_t position() const { return position_; }

 private:
  static constexpr uint32_t low(uint64_t value) { return static_cast<uint32_t>(value); }
  static constexpr uint32_t high(uint64_t value) { return static_cast<uint32_t>(value >> 32); }

  uint64_t seed_;
  uint64_t stream_;
  uint64_t position_;  // draws of 32 bits so far
  uint64_t block_index_ = 0;
  PhiloxBlock block_{};
  bool filled_ = false;
};

}  // namespace bittern
