// Philox against the known answers of its authors' library (Random123), and the draws made from it.
#include "base/random.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace bittern {
namespace {

TEST(Philox, KnownAnswers) {
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}), (PhiloxBlock{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr uint32_t kOnes = 0xffffffff;
  EXPECT_EQ(philox4x32({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}),
            (PhiloxBlock{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  // The digits of pi.
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (PhiloxBlock{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Random, RepeatsAndCanStartAnywhere) {
  Random whole(7, 3);
  std::vector<uint32_t> draws;
  for (int i = 0; i < 20; ++i) draws.push_back(whole.next_u32());
  EXPECT_EQ(whole.position(), 20u);
  for (uint64_t start = 0; start < 20; ++start) {
    Random part(7, 3, start);
    for (uint64_t i = start; i < 20; ++i) ASSERT_EQ(part.next_u32(), draws[i]);
  }
}

TEST(Random, SeedsAndStreamsDiffer) {
  std::set<uint64_t> firsts;
  for (uint64_t seed : {uint64_t{0}, uint64_t{1}, uint64_t{1} << 32, uint64_t{1} << 63}) {
    for (uint64_t stream : {uint64_t{0}, uint64_t{1}, uint64_t{1} << 40})
      firsts.insert(Random(seed, stream).next_u64());
  }
  EXPECT_EQ(firsts.size(), 12u);
}

TEST(Random, UniformDrawsStayInRangeWithTheRightMean) {
  Random random(42);
  double sum = 0, normal_sum = 0, normal_squares = 0;
  for (int i = 0; i < 100000; ++i) {
    const float f = random.next_float();
    const double d = random.next_double();
    const double n = random.next_normal();
    ASSERT_TRUE(f >= 0 && f < 1 && d >= 0 && d < 1);
    sum += d;
    normal_sum += n;
    normal_squares += n * n;
  }
  // Five standard errors of a mean of 100,000: 0.0046 (uniform), 0.016 (normal), 0.022 (its square).
  EXPECT_NEAR(sum / 100000, 0.5, 0.0046);
  EXPECT_NEAR(normal_sum / 100000, 0, 0.016);
  EXPECT_NEAR(normal_squares / 100000, 1, 0.023);
}

TEST(Random, BelowIsUnbiased) {
  Random random(1);
  std::vector<int> counts(3);
  for (int i = 0; i < 30000; ++i) ++counts.at(random.next_below(3));
  for (int count : counts) EXPECT_NEAR(count, 10000, 5 * 82);
  EXPECT_EQ(random.next_below(1), 0u);
  // A bound just above 2^31: plain remainder would favour small values two to one.
  int small = 0;
  const uint32_t bound = (1u << 31) + (1u << 30);
  for (int i = 0; i < 30000; ++i) small += random.next_below(bound) < bound / 2;
  EXPECT_NEAR(small, 15000, 5 * 87);
}

}  // namespace
}  // namespace bittern
