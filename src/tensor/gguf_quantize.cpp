// Q4_0 and Q8_0 follow ggml's reference loops, whose rounding is part of the format's fame. Q4_K minimizes the squared
// error: a search over ranges for each group of 32, refined by least squares, then scales and minima rounded to 6 bits
// and the codes chosen again for what was stored.
#include "tensor/gguf_quantize.h"

#include <bittern/error.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/check.h"
#include "base/half.h"
#include "tensor/convert.h"

namespace bittern {
namespace {

void put_half(std::uint8_t* at, float value) {
  const std::uint16_t bits = to_f16(value).bits;
  std::memcpy(at, &bits, sizeof(bits));
}

// The value of largest size becomes code 0 (-8 steps), so that one sign has one step more than the other.
void encode_q4_0(const float* x, std::uint8_t* b) {
  float largest = 0.0F, size = 0.0F;
  for (int j = 0; j < 32; ++j) {
    if (std::fabs(x[j]) > size) {
      size = std::fabs(x[j]);
      largest = x[j];
    }
  }
  const float d = largest / -8.0F;
  const float inverse = d != 0.0F ? 1.0F / d : 0.0F;
  put_half(b, d);
  const auto code = [&](float value) {
    return static_cast<std::uint8_t>(std::min(15, static_cast<int>(value * inverse + 8.5F)));
  };
  for (int j = 0; j < 16; ++j) b[2 + j] = static_cast<std::uint8_t>(code(x[j]) | code(x[j + 16]) << 4U);
}

void encode_q8_0(const float* x, std::uint8_t* b) {
  float size = 0.0F;
  for (int j = 0; j < 32; ++j) size = std::max(size, std::fabs(x[j]));
  const float d = size / 127.0F;
  const float inverse = d != 0.0F ? 1.0F / d : 0.0F;
  put_half(b, d);
  for (int j = 0; j < 32; ++j) b[2 + j] = static_cast<std::uint8_t>(static_cast<int>(std::roundf(x[j] * inverse)));
}

// --- Q4_K ---

constexpr int kGroups = 8;  // of 32 values

// x is about scale * q - minimum, with scale and minimum not negative.
struct Affine {
  float scale = 0.0F;
  float minimum = 0.0F;
};

int code_of(float x, const Affine& a) {
  if (a.scale <= 0.0F) return 0;
  return std::clamp(static_cast<int>(std::lround((x + a.minimum) / a.scale)), 0, 15);
}

double error_of(const float* x, const Affine& a) {
  double error = 0;
  for (int j = 0; j < 32; ++j) {
    const double off = static_cast<double>(a.scale) * code_of(x[j], a) - a.minimum - x[j];
    error += off * off;
  }
  return error;
}

// The best scale and minimum for the codes that `a` chooses.
Affine least_squares(const float* x, const Affine& a) {
  double sum_q = 0, sum_qq = 0, sum_x = 0, sum_qx = 0;
  for (int j = 0; j < 32; ++j) {
    const double q = code_of(x[j], a);
    sum_q += q, sum_qq += q * q, sum_x += x[j], sum_qx += q * x[j];
  }
  const double determinant = 32 * sum_qq - sum_q * sum_q;
  if (determinant <= 0) return a;
  Affine fit{static_cast<float>((32 * sum_qx - sum_q * sum_x) / determinant),
             static_cast<float>((sum_q * sum_qx - sum_qq * sum_x) / determinant)};
  if (fit.minimum < 0 && sum_qq > 0) fit = {static_cast<float>(sum_qx / sum_qq), 0.0F};
  return fit.scale > 0 ? fit : a;
}

Affine plain_range(const float* x) {
  const float low = std::min(0.0F, *std::min_element(x, x + 32));
  const float high = std::max(*std::max_element(x, x + 32), low);
  return {(high - low) / 15.0F, -low};
}

// Shrinking the range loses the outermost values and refines all others.
Affine search_group(const float* x) {
  const Affine plain = plain_range(x);
  if (plain.scale <= 0.0F) return plain;
  Affine best = plain;
  double least = error_of(x, plain);
  constexpr int kSteps = 24;
  for (int step = 0; step < kSteps; ++step) {
    Affine tried{plain.scale * (1.02F - 0.02F * static_cast<float>(step)), plain.minimum};
    for (int round = 0; round < 2; ++round) {
      tried = least_squares(x, tried);
      if (const double error = error_of(x, tried); error < least) {
        least = error;
        best = tried;
      }
    }
  }
  return best;
}

struct PackedScales {
  float d = 0.0F, dmin = 0.0F;  // as stored in half precision
  std::array<int, kGroups> scales{}, minima{};

  Affine group(std::size_t g) const {
    return {d * static_cast<float>(scales[g]), dmin * static_cast<float>(minima[g])};
  }
};

// Steps of six bits; the neighbours of the nearest are tried too, since scale and minimum round together.
void round_group(const float* x, const Affine& wanted, std::size_t g, PackedScales& packed) {
  const auto nearest = [](float value, float step) {
    return step > 0 ? std::clamp(static_cast<int>(std::lround(value / step)), 0, 63) : 0;
  };
  const int scale = nearest(wanted.scale, packed.d), minimum = nearest(wanted.minimum, packed.dmin);
  double least = std::numeric_limits<double>::infinity();
  for (int s = std::max(0, scale - 1); s <= std::min(63, scale + 1); ++s) {
    for (int m = std::max(0, minimum - 1); m <= std::min(63, minimum + 1); ++m) {
      const Affine tried{packed.d * static_cast<float>(s), packed.dmin * static_cast<float>(m)};
      const double error = error_of(x, tried);
      if (error >= least) continue;
      least = error;
      packed.scales[g] = s;
      packed.minima[g] = m;
    }
  }
}

PackedScales pack_scales(const float* x, const std::array<Affine, kGroups>& wanted) {
  float scale = 0.0F, minimum = 0.0F;
  for (const Affine& a : wanted) scale = std::max(scale, a.scale), minimum = std::max(minimum, a.minimum);
  PackedScales packed;
  packed.d = to_f32(to_f16(scale / 63.0F));
  packed.dmin = to_f32(to_f16(minimum / 63.0F));
  for (std::size_t g = 0; g < kGroups; ++g) round_group(x + 32 * g, wanted[g], g, packed);
  return packed;
}

double total_error(const float* x, const PackedScales& packed) {
  double error = 0;
  for (std::size_t g = 0; g < kGroups; ++g) error += error_of(x + 32 * g, packed.group(g));
  return error;
}

// The inverse of what gguf_blocks.cpp reads.
void put_scales(const PackedScales& packed, std::uint8_t* b) {
  put_half(b, packed.d);
  put_half(b + 2, packed.dmin);
  std::uint8_t* q = b + 4;
  std::fill_n(q, 12, std::uint8_t{0});
  for (std::size_t j = 0; j < 4; ++j) {
    const auto high_scale = static_cast<unsigned>(packed.scales[j + 4]);
    const auto high_minimum = static_cast<unsigned>(packed.minima[j + 4]);
    q[j] = static_cast<std::uint8_t>(static_cast<unsigned>(packed.scales[j]) | (high_scale >> 4U) << 6U);
    q[j + 4] = static_cast<std::uint8_t>(static_cast<unsigned>(packed.minima[j]) | (high_minimum >> 4U) << 6U);
    q[j + 8] = static_cast<std::uint8_t>((high_scale & 15U) | (high_minimum & 15U) << 4U);
  }
}

void encode_q4_k(const float* x, std::uint8_t* b) {
  std::array<Affine, kGroups> searched, plain;
  for (std::size_t g = 0; g < kGroups; ++g) {
    searched[g] = search_group(x + 32 * g);
    plain[g] = plain_range(x + 32 * g);
  }
  // Rounding to six bits can undo what the search won, so both are packed and the better one is kept.
  PackedScales packed = pack_scales(x, searched);
  if (const PackedScales other = pack_scales(x, plain); total_error(x, other) < total_error(x, packed)) packed = other;
  put_scales(packed, b);
  std::fill_n(b + 16, 128, std::uint8_t{0});
  for (std::size_t i = 0; i < 256; ++i) {
    const int code = code_of(x[i], packed.group(i / 32));
    b[16 + i / 64 * 32 + i % 32] |= static_cast<std::uint8_t>(i % 64 < 32 ? code : code << 4);
  }
}

struct Encoder {
  GgufType type;
  void (*encode)(const float*, std::uint8_t*);
};

constexpr std::array kEncoders = {Encoder{GgufType::q4_0, encode_q4_0}, Encoder{GgufType::q8_0, encode_q8_0},
                                  Encoder{GgufType::q4_k, encode_q4_k}};

const Encoder* encoder_of(GgufType type) {
  const auto found =
      std::find_if(kEncoders.begin(), kEncoders.end(), [&](const auto& row) { return row.type == type; });
  return found == kEncoders.end() ? nullptr : &*found;
}

bool is_dense(GgufType type) { return type == GgufType::f32 || type == GgufType::f16 || type == GgufType::bf16; }

}  // namespace

bool gguf_can_write(GgufType type) { return is_dense(type) || encoder_of(type) != nullptr; }

std::vector<std::byte> gguf_encode(GgufType type, std::span<const float> values) {
  if (!gguf_can_write(type)) {
    throw Error(ErrorCode::unsupported,
                "GGUF type " + gguf_type_name(static_cast<std::uint32_t>(type)) + " cannot be written",
                "Bittern writes F32, F16, BF16, Q4_0, Q8_0 and Q4_K");
  }
  std::vector<std::byte> bytes(static_cast<std::size_t>(gguf_bytes(type, static_cast<std::int64_t>(values.size()))));
  if (is_dense(type)) {
    convert_from_f32(values.data(), gguf_format(type).dtype, static_cast<std::int64_t>(values.size()), bytes.data());
    return bytes;
  }
  if (!std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); })) {
    throw Error(ErrorCode::invalid_argument, "a weight that is not finite cannot be quantized");
  }
  const GgufTypeInfo& info = *gguf_type_info(static_cast<std::uint32_t>(type));
  auto* out = reinterpret_cast<std::uint8_t*>(bytes.data());
  for (std::size_t at = 0; at < values.size(); at += static_cast<std::size_t>(info.block_values)) {
    encoder_of(type)->encode(values.data() + at, out);
    out += info.block_bytes;
  }
  return bytes;
}

}  // namespace bittern
