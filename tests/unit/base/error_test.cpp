// The table of error codes, and what a failed check does.
#include <bittern/error.h>
#include <gtest/gtest.h>

#include "base/check.h"

namespace bittern {
namespace {

TEST(Error, EachCodeHasItsNameExitStatusAndHttpStatus) {
  EXPECT_EQ(error_code_name(ErrorCode::invalid_argument), "invalid_argument");
  EXPECT_EQ(exit_status(ErrorCode::invalid_argument), 2);
  EXPECT_EQ(http_status(ErrorCode::invalid_argument), 400);
  EXPECT_EQ(http_status(ErrorCode::not_found), 404);
  EXPECT_EQ(http_status(ErrorCode::overloaded), 429);
  EXPECT_EQ(exit_status(ErrorCode::cancelled), 130);
  EXPECT_EQ(error_code_name(ErrorCode::internal), "internal");
  EXPECT_EQ(http_status(ErrorCode::internal), 500);
}

TEST(Error, ExitStatusesAreNonZeroAndDiffer) {
  for (int a = 0; a <= static_cast<int>(ErrorCode::internal); ++a) {
    EXPECT_GT(exit_status(static_cast<ErrorCode>(a)), 0);
    for (int b = 0; b < a; ++b) {
      EXPECT_NE(exit_status(static_cast<ErrorCode>(a)), exit_status(static_cast<ErrorCode>(b)));
    }
  }
}

TEST(Error, WhatJoinsMessageAndHint) {
  EXPECT_STREQ(Error(ErrorCode::io, "cannot do it", "do that").what(), "cannot do it (do that)");
  EXPECT_STREQ(Error(ErrorCode::io, "cannot do it").what(), "cannot do it");
}

TEST(Check, PassesSilentlyAndDoesNotBuildTheMessage) {
  int built = 0;
  const auto costly = [&] { return ++built; };
  BITTERN_CHECK(true, "{}", costly());
  BITTERN_CHECK(1 + 1 == 2);
  EXPECT_EQ(built, 0);
}

TEST(CheckDeathTest, NamesFileConditionAndValues) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const int rows = 3;
  EXPECT_DEATH(BITTERN_CHECK(rows == 4, "rows {} of {}", rows, 4),
               "error_test.cpp:[0-9]+: check failed: rows == 4: rows 3 of 4");
  EXPECT_DEATH(BITTERN_CHECK(rows < 0), "check failed: rows < 0");
}

}  // namespace
}  // namespace bittern
