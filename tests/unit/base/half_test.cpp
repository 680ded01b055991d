// Conversions of 16-bit floats: every one of the 65,536 values, the neighbourhood of every rounding boundary, and the
// hardware's own conversion where this CPU has it.
#include "base/half.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "base/random.h"
#include "base/sysinfo.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace bittern {
namespace {

// The value by the definition of the format, in exact double arithmetic.
double f16_by_definition(uint16_t bits) {
  const int exponent = (bits >> 10) & 31;
  const int mantissa = bits & 1023;
  const double sign = (bits & 0x8000) != 0 ? -1 : 1;
  if (exponent == 31) return mantissa != 0 ? std::nan("") : sign * std::numeric_limits<double>::infinity();
  return sign * (exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25));
}

TEST(F16, EveryValueConvertsExactlyAndBack) {
  for (uint32_t i = 0; i < 65536; ++i) {
    const F16 half{static_cast<uint16_t>(i)};
    const double expected = f16_by_definition(half.bits);
    const float actual = to_f32(half);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(actual)) << i;
      ASSERT_EQ(to_f16(actual).bits, half.bits | 0x200) << i;
    } else {
      ASSERT_EQ(static_cast<double>(actual), expected) << i;
      ASSERT_EQ(std::signbit(actual), (i & 0x8000) != 0) << i;
      ASSERT_EQ(to_f16(actual).bits, half.bits) << i;
    }
  }
}

TEST(F16, RoundsToNearestEvenAtEveryBoundary) {
  for (uint32_t i = 0; i < 0x7bff; ++i) {  // each pair of neighbours among the finite positive values
    const double low = f16_by_definition(static_cast<uint16_t>(i));
    const double high = f16_by_definition(static_cast<uint16_t>(i + 1));
    const auto middle = static_cast<float>((low + high) / 2);  // exact: one bit more than f16
    const uint16_t even = static_cast<uint16_t>((i & 1) == 0 ? i : i + 1);
    ASSERT_EQ(to_f16(middle).bits, even);
    ASSERT_EQ(to_f16(std::nextafter(middle, 0.0f)).bits, i);
    ASSERT_EQ(to_f16(std::nextafter(middle, 1e9f)).bits, i + 1);
    ASSERT_EQ(to_f16(-middle).bits, even | 0x8000);
  }
}

TEST(F16, Extremes) {
  EXPECT_EQ(to_f16(65504.0f).bits, 0x7bff);
  EXPECT_EQ(to_f16(65519.99f).bits, 0x7bff);
  EXPECT_EQ(to_f16(65520.0f).bits, 0x7c00);
  EXPECT_EQ(to_f16(-1e30f).bits, 0xfc00);
  EXPECT_EQ(to_f16(std::numeric_limits<float>::infinity()).bits, 0x7c00);
  EXPECT_EQ(to_f16(0x1p-25f).bits, 0);
  EXPECT_EQ(to_f16(std::nextafter(0x1p-25f, 1.0f)).bits, 1);
  EXPECT_EQ(to_f16(-0.0f).bits, 0x8000);
  EXPECT_EQ(to_f16(std::numeric_limits<float>::denorm_min()).bits, 0);
  static_assert(to_f16(1.0f).bits == 0x3c00 && to_f32(F16{0x3c00}) == 1.0f);
}

TEST(BF16, EveryValueConvertsExactlyAndBack) {
  for (uint32_t i = 0; i < 65536; ++i) {
    const BF16 value{static_cast<uint16_t>(i)};
    const float wide = to_f32(value);
    ASSERT_EQ(std::bit_cast<uint32_t>(wide), i << 16);
    ASSERT_EQ(to_bf16(wide).bits, std::isnan(wide) ? (i | 0x40) : i) << i;
  }
}

TEST(BF16, RoundsToNearestEven) {
  const auto round = [](uint32_t bits) { return to_bf16(std::bit_cast<float>(bits)).bits; };
  for (uint32_t upper = 0; upper < 0x7f80; ++upper) {
    ASSERT_EQ(round(upper << 16 | 0x7fff), upper);
    ASSERT_EQ(round(upper << 16 | 0x8000), upper + (upper & 1));
    ASSERT_EQ(round(upper << 16 | 0x8001), upper + 1);
  }
  EXPECT_EQ(to_bf16(std::numeric_limits<float>::max()).bits, 0x7f80);  // overflows to infinity
  static_assert(to_bf16(-2.0f).bits == 0xc000);
}

#if defined(__x86_64__)
[[gnu::target("f16c")]] uint16_t hardware_f16(float value) {
  return static_cast<uint16_t>(_cvtss_sh(value, _MM_FROUND_TO_NEAREST_INT));
}
[[gnu::target("f16c")]] float hardware_f32(uint16_t bits) { return _cvtsh_ss(bits); }

TEST(F16, EqualsTheHardware) {
  if (!cpu_features().f16c) GTEST_SKIP() << "this CPU has no F16C";
  for (uint32_t i = 0; i < 65536; ++i) {
    const auto bits = static_cast<uint16_t>(i);
    ASSERT_EQ(std::bit_cast<uint32_t>(to_f32(F16{bits})), std::bit_cast<uint32_t>(hardware_f32(bits))) << i;
  }
  Random random(1);
  for (int i = 0; i < 1000000; ++i) {
    const auto value = std::bit_cast<float>(random.next_u32());
    ASSERT_EQ(to_f16(value).bits, hardware_f16(value)) << value;
  }
}
#endif

}  // namespace
}  // namespace bittern
