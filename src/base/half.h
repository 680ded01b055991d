// The two 16-bit float types as plain bits, and their exact conversions to and from f32, one value at a time.
// Conversions to 16 bits round to nearest, ties to even, as the hardware's do. Arithmetic is done in f32 elsewhere.
// It may be included in files compiled for one instruction set: <cstdint> alone, and every function is always inlined,
// so no symbol of it exists.
#pragma once

#include <cstdint>

namespace bittern {

/// IEEE 754 binary16: 1 sign, 5 exponent and 10 mantissa bits.
struct F16 {
  uint16_t bits;
};

/// bfloat16: the upper half of an f32 (1 sign, 8 exponent and 7 mantissa bits).
struct BF16 {
  uint16_t bits;
};

[[gnu::always_inline]] inline constexpr bool operator==(F16 a, F16 b) { return a.bits == b.bits; }
[[gnu::always_inline]] inline constexpr bool operator==(BF16 a, BF16 b) { return a.bits == b.bits; }

/// Exact for every value; a signaling NaN becomes quiet.
[[gnu::always_inline]] inline constexpr float to_f32(F16 value) {
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000u) << 16;
  const uint32_t exponent = (value.bits >> 10) & 0x1fu;
  const uint32_t mantissa = value.bits & 0x3ffu;
  if (exponent == 0) {  // zero or subnormal: mantissa * 2^-24, which f32 holds exactly
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return sign != 0 ? -magnitude : magnitude;
  }
  if (exponent == 31) {
    const uint32_t quiet = mantissa != 0 ? 0x400000u : 0u;
    return __builtin_bit_cast(float, sign | 0x7f800000u | (mantissa << 13) | quiet);
  }
  return __builtin_bit_cast(float, sign | ((exponent + 112u) << 23) | (mantissa << 13));
}

/// Exact for every value.
[[gnu::always_inline]] inline constexpr float to_f32(BF16 value) {
  return __builtin_bit_cast(float, static_cast<uint32_t>(value.bits) << 16);
}

/// Rounds to nearest even; from 65520 on to infinity; NaN stays NaN (quiet, upper payload bits kept).
[[gnu::always_inline]] inline constexpr F16 to_f16(float value) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) {
    return {static_cast<uint16_t>(sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu))};
  }
  if (magnitude >= 0x477ff000u) return {static_cast<uint16_t>(sign | 0x7c00u)};  // 65520 and above
  if (magnitude >= 0x38800000u) {                                                // 2^-14: the smallest normal
    magnitude += 0xfffu + ((magnitude >> 13) & 1u);
    return {static_cast<uint16_t>(sign | ((magnitude - 0x38000000u) >> 13))};
  }
  if (magnitude <= 0x33000000u) return {static_cast<uint16_t>(sign)};  // 2^-25 is a tie, and 0 is even
  // Subnormal: count units of 2^-24, with the implicit leading bit of the f32 made explicit.
  const uint32_t shift = 126u - (magnitude >> 23);
  const uint32_t mantissa = (magnitude & 0x7fffffu) | 0x800000u;
  const uint32_t half = 1u << (shift - 1);
  const uint32_t rest = mantissa & ((1u << shift) - 1u);
  uint32_t units = mantissa >> shift;
  if (rest > half || (rest == half && (units & 1u) != 0)) ++units;
  return {static_cast<uint16_t>(sign | units)};
}

/// Rounds to nearest even; overflow becomes infinity; NaN stays NaN (quiet, upper payload bits kept).
[[gnu::always_inline]] inline constexpr BF16 to_bf16(float value) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((bits >> 16) | 0x40u)};
  return {static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

}  // namespace bittern
