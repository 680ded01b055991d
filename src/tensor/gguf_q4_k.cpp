// Minimizes the squared error: a search over ranges for each group of 32, each range fitted to its codes by least
// squares, then scales and minima rounded to 6 bits and the codes chosen again for what was stored. Four values go
// through each step at once in the compiler's portable vectors, which is what makes it fast without a file per ISA.
#include "tensor/gguf_q4_k.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

#include "base/half.h"

namespace bittern {
namespace {

using Lanes = float __attribute__((vector_size(16)));
using Integers = std::int32_t __attribute__((vector_size(16)));
constexpr int kLanes = 4;
constexpr std::size_t kVectors = 32 / kLanes;
constexpr std::size_t kGroups = 8;

using Group = std::array<Lanes, kVectors>;  // 32 values, or their codes

Group load_group(const float* values) {
  Group group;
  std::memcpy(group.data(), values, sizeof(group));
  return group;
}

float total(Lanes v) { return (v[0] + v[1]) + (v[2] + v[3]); }

// x is about scale * q - minimum, with scale and minimum not negative.
struct Affine {
  float scale = 0.0F;
  float minimum = 0.0F;
};

// Nearest codes, in [0, 15]. Comparisons are written so that NaN (0 * infinity, for scales near nothing) becomes 0.
Group codes_of(const Group& x, const Affine& a) {
  const float inverse = a.scale > 0.0F ? 1.0F / a.scale : 0.0F;
  const Lanes lowest = {}, highest = lowest + 15.0F;
  Group codes;
  for (std::size_t i = 0; i < kVectors; ++i) {
    Lanes q = (x[i] + a.minimum) * inverse + 0.5F;
    q = q > lowest ? q : lowest;
    q = q < highest ? q : highest;
    codes[i] = __builtin_convertvector(__builtin_convertvector(q, Integers), Lanes);
  }
  return codes;
}

float error_of(const Group& x, const Group& codes, const Affine& a) {
  Lanes error = {};
  for (std::size_t i = 0; i < kVectors; ++i) {
    const Lanes off = codes[i] * a.scale - a.minimum - x[i];
    error += off * off;
  }
  return total(error);
}

// The best scale and minimum for given codes; `otherwise` where they do not determine any.
Affine least_squares(const Group& x, const Group& codes, const Affine& otherwise) {
  Lanes q = {}, qq = {}, xs = {}, qx = {};
  for (std::size_t i = 0; i < kVectors; ++i) {
    q += codes[i], qq += codes[i] * codes[i], xs += x[i], qx += codes[i] * x[i];
  }
  const double sum_q = total(q), sum_qq = total(qq), sum_x = total(xs), sum_qx = total(qx);
  const double determinant = 32 * sum_qq - sum_q * sum_q;
  if (determinant <= 0) return otherwise;
  Affine fit{static_cast<float>((32 * sum_qx - sum_q * sum_x) / determinant),
             static_cast<float>((sum_q * sum_qx - sum_qq * sum_x) / determinant)};
  if (fit.minimum < 0) fit = {static_cast<float>(sum_qx / sum_qq), 0.0F};
  return fit.scale > 0 ? fit : otherwise;
}

Affine plain_range(const Group& x) {
  Lanes low = {}, high = x[0];
  for (const Lanes& v : x) {
    low = v < low ? v : low;
    high = v > high ? v : high;
  }
  const float lowest = std::min({low[0], low[1], low[2], low[3]});
  const float highest = std::max({high[0], high[1], high[2], high[3], lowest});
  return {(highest - lowest) / 15.0F, -lowest};
}

// Keeps what lowers the error of a group.
struct Best {
  Affine affine;
  float error = std::numeric_limits<float>::infinity();

  bool offer(const Affine& tried, float tried_error) {
    if (!(tried_error < error)) return false;
    affine = tried;
    error = tried_error;
    return true;
  }
};

// Shrinking a range at either end loses the outermost values and refines all others. Choosing codes again for a fitted
// range can only lower its error, so the fits are compared by the codes they were made from and the winner alone is
// refined.
Affine search_group(const Group& x, const Affine& plain) {
  if (plain.scale <= 0.0F) return plain;
  Best best;
  best.offer(plain, error_of(x, codes_of(x, plain), plain));
  constexpr std::array kShares = {1.02F, 0.95F, 0.88F, 0.81F};
  const float high = plain.scale * 15.0F - plain.minimum;
  for (const float top : kShares) {
    for (const float bottom : kShares) {
      const float minimum = plain.minimum * bottom;
      const Affine tried{(high * top + minimum) / 15.0F, minimum};
      const Group codes = codes_of(x, tried);
      const Affine fit = least_squares(x, codes, tried);
      best.offer(fit, error_of(x, codes, fit));
    }
  }
  constexpr int kRefinements = 3;
  for (int round = 0; round < kRefinements; ++round) {
    const Group codes = codes_of(x, best.affine);
    const Affine fit = least_squares(x, codes, best.affine);
    if (!best.offer(fit, error_of(x, codes, fit))) break;
  }
  return best.affine;
}

struct PackedScales {
  float d = 0.0F, dmin = 0.0F;  // as stored in half precision
  std::array<int, kGroups> scales{}, minima{};
  float error = 0.0F;

  Affine group(std::size_t g) const {
    return {d * static_cast<float>(scales[g]), dmin * static_cast<float>(minima[g])};
  }
};

// Steps of six bits; the neighbours of the nearest are tried too, since scale and minimum round together.
void round_group(const Group& x, const Affine& wanted, std::size_t g, PackedScales& packed) {
  const auto nearest = [](float value, float step) {
    return step > 0 ? std::min(static_cast<int>(std::min(value / step, 63.0F) + 0.5F), 63) : 0;
  };
  const int scale = nearest(wanted.scale, packed.d), minimum = nearest(wanted.minimum, packed.dmin);
  Best best;
  for (int s = std::max(0, scale - 1); s <= std::min(63, scale + 1); ++s) {
    for (int m = std::max(0, minimum - 1); m <= std::min(63, minimum + 1); ++m) {
      const Affine tried{packed.d * static_cast<float>(s), packed.dmin * static_cast<float>(m)};
      if (!best.offer(tried, error_of(x, codes_of(x, tried), tried))) continue;
      packed.scales[g] = s;
      packed.minima[g] = m;
    }
  }
  packed.error += best.error;
}

using Block = std::array<Group, kGroups>;

PackedScales pack_scales(const Block& x, const std::array<Affine, kGroups>& wanted) {
  float scale = 0.0F, minimum = 0.0F;
  for (const Affine& a : wanted) scale = std::max(scale, a.scale), minimum = std::max(minimum, a.minimum);
  PackedScales packed;
  packed.d = to_f32(to_f16(scale / 63.0F));
  packed.dmin = to_f32(to_f16(minimum / 63.0F));
  for (std::size_t g = 0; g < kGroups; ++g) round_group(x[g], wanted[g], g, packed);
  return packed;
}

void put_half(std::uint8_t* at, float value) {
  const std::uint16_t bits = to_f16(value).bits;
  std::memcpy(at, &bits, sizeof(bits));
}

// The inverse of what gguf_blocks.cpp reads.
void put_scales(const PackedScales& packed, std::uint8_t* b) {
  put_half(b, packed.d);
  put_half(b + 2, packed.dmin);
  std::uint8_t* q = b + 4;
  for (std::size_t j = 0; j < 4; ++j) {
    const auto high_scale = static_cast<unsigned>(packed.scales[j + 4]);
    const auto high_minimum = static_cast<unsigned>(packed.minima[j + 4]);
    q[j] = static_cast<std::uint8_t>(static_cast<unsigned>(packed.scales[j]) | (high_scale >> 4U) << 6U);
    q[j + 4] = static_cast<std::uint8_t>(static_cast<unsigned>(packed.minima[j]) | (high_minimum >> 4U) << 6U);
    q[j + 8] = static_cast<std::uint8_t>((high_scale & 15U) | (high_minimum & 15U) << 4U);
  }
}

// Low nibbles of 32 bytes hold an even group, high nibbles the odd one after it.
void put_codes(const Block& x, const PackedScales& packed, std::uint8_t* b) {
  for (std::size_t g = 0; g < kGroups; g += 2) {
    const Group low = codes_of(x[g], packed.group(g)), high = codes_of(x[g + 1], packed.group(g + 1));
    for (std::size_t i = 0; i < kVectors; ++i) {
      const Integers both = __builtin_convertvector(low[i] + high[i] * 16.0F, Integers);
      for (int lane = 0; lane < kLanes; ++lane) *b++ = static_cast<std::uint8_t>(both[lane]);
    }
  }
}

}  // namespace

void encode_q4_k(const float* values, std::uint8_t* block) {
  Block x;
  std::array<Affine, kGroups> searched, plain;
  for (std::size_t g = 0; g < kGroups; ++g) {
    x[g] = load_group(values + 32 * g);
    plain[g] = plain_range(x[g]);
    searched[g] = search_group(x[g], plain[g]);
  }
  // Rounding to six bits can undo what the search won, so both are packed and the better one is kept.
  PackedScales packed = pack_scales(x, searched);
  if (const PackedScales other = pack_scales(x, plain); other.error < packed.error) packed = other;
  put_scales(packed, block);
  put_codes(x, packed, block + 16);
}

}  // namespace bittern
