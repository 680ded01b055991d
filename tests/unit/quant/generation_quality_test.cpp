// Repetition and agreement on sequences small enough to count by hand.
#include "quant/generation_quality.h"

#include <gtest/gtest.h>

#include <vector>

namespace bittern::quant {
namespace {

using Tokens = std::vector<std::int32_t>;

TEST(RepeatedShare, IsZeroForTextThatNeverRepeats) { EXPECT_EQ(repeated_share(Tokens{1, 2, 3, 4, 5, 6, 7}), 0); }

TEST(RepeatedShare, CountsRunsThatOccurredBefore) {
  // Runs of two: 12 23 31 12 23; the last two are repeated.
  EXPECT_DOUBLE_EQ(repeated_share(Tokens{1, 2, 3, 1, 2, 3}, 2), 2.0 / 5);
}

TEST(RepeatedShare, NearsOneInALoop) { EXPECT_DOUBLE_EQ(repeated_share(Tokens(103, 9)), 99.0 / 100); }

TEST(RepeatedShare, IsZeroForTextsShorterThanARun) {
  EXPECT_EQ(repeated_share(Tokens{1, 1, 1}), 0);
  EXPECT_EQ(repeated_share(Tokens{}), 0);
}

TEST(CommonPrefix, EndsAtTheFirstDifferenceOrTheShorterText) {
  EXPECT_EQ(common_prefix(Tokens{1, 2, 3}, Tokens{1, 2, 4}), 2);
  EXPECT_EQ(common_prefix(Tokens{1, 2}, Tokens{1, 2, 4}), 2);
  EXPECT_EQ(common_prefix(Tokens{}, Tokens{1}), 0);
}

}  // namespace
}  // namespace bittern::quant
