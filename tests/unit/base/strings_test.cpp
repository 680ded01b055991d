// Splitting, sizes for people, spelling suggestions and UTF-8.
#include "base/strings.h"

#include <gtest/gtest.h>

namespace bittern {
namespace {

using Parts = std::vector<std::string_view>;

TEST(Strings, SplitTrimJoin) {
  EXPECT_EQ(split("a,,b", ','), (Parts{"a", "", "b"}));
  EXPECT_EQ(split("", ','), (Parts{""}));
  EXPECT_EQ(split(",", ','), (Parts{"", ""}));
  EXPECT_EQ(trim(" \t a b\r\n"), "a b");
  EXPECT_EQ(trim("  "), "");
  EXPECT_EQ(join(std::vector<std::string>{"a", "b", "c"}, ", "), "a, b, c");
  EXPECT_EQ(join(std::vector<std::string>{}, ", "), "");
  EXPECT_EQ(to_lower("AbC-\xc3\x84"), "abc-\xc3\x84");
}

TEST(Strings, SizesForPeople) {
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(1023), "1023 B");
  EXPECT_EQ(human_bytes(1024), "1.00 KiB");
  EXPECT_EQ(human_bytes(1536), "1.50 KiB");
  EXPECT_EQ(human_bytes(23 << 20), "23.0 MiB");
  EXPECT_EQ(human_bytes(uint64_t{1} << 30), "1.00 GiB");
  EXPECT_EQ(human_bytes((uint64_t{1} << 30) - 1), "1.00 GiB");
  EXPECT_EQ(human_bytes(UINT64_MAX), "16.0 EiB");
  EXPECT_EQ(human_count(950), "950");
  EXPECT_EQ(human_count(1240), "1.24 K");
  EXPECT_EQ(human_count(494032768), "494 M");
  EXPECT_EQ(human_count(8030261248), "8.03 B");
  EXPECT_EQ(human_count(999999), "1.00 M");
  EXPECT_EQ(human_seconds(0.84), "0.8 s");
  EXPECT_EQ(human_seconds(75), "75 s");
  EXPECT_EQ(human_seconds(250), "4 min 10 s");
  EXPECT_EQ(human_seconds(7500), "2 h 05 min");
}

TEST(Strings, EditDistance) {
  EXPECT_EQ(edit_distance("", ""), 0u);
  EXPECT_EQ(edit_distance("abc", ""), 3u);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
  EXPECT_EQ(edit_distance("ab", "ba"), 1u);
  EXPECT_EQ(edit_distance("temperature", "temprature"), 1u);
}

TEST(Strings, NearestSuggestsOnlyWhatIsNear) {
  const std::vector<std::string> options{"--temperature", "--top-k", "--top-p", "--seed"};
  EXPECT_EQ(nearest("--temprature", options), "--temperature");
  EXPECT_EQ(nearest("--TOP-K", options), "--top-k");
  EXPECT_EQ(nearest("--sede", options), "--seed");
  EXPECT_EQ(nearest("--completely-else", options), "");
  EXPECT_EQ(nearest("xy", std::vector<std::string>{"ab"}), "");
  EXPECT_EQ(did_you_mean("--sed", options), "did you mean '--seed'?");
  EXPECT_EQ(did_you_mean("zzzzzzzzz", options), "");
}

TEST(Utf8, ValidPrefix) {
  EXPECT_EQ(utf8_valid_prefix("plain"), 5u);
  EXPECT_EQ(utf8_valid_prefix("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"), 9u);
  EXPECT_EQ(utf8_valid_prefix("a\xc3"), 1u);
  EXPECT_EQ(utf8_valid_prefix("a\x80z"), 1u);
  EXPECT_EQ(utf8_valid_prefix("\xc0\x80"), 0u);          // overlong
  EXPECT_EQ(utf8_valid_prefix("\xe0\x9f\xbf"), 0u);      // overlong
  EXPECT_EQ(utf8_valid_prefix("\xed\xa0\x80"), 0u);      // surrogate
  EXPECT_EQ(utf8_valid_prefix("\xf4\x90\x80\x80"), 0u);  // above U+10FFFF
  EXPECT_EQ(utf8_valid_prefix("\xf5"), 0u);
  EXPECT_TRUE(utf8_is_valid("\xf4\x8f\xbf\xbf"));
}

TEST(Utf8, IncompleteTail) {
  EXPECT_EQ(utf8_incomplete_tail(""), 0u);
  EXPECT_EQ(utf8_incomplete_tail("abc"), 0u);
  EXPECT_EQ(utf8_incomplete_tail("ab\xc3"), 1u);
  EXPECT_EQ(utf8_incomplete_tail("\xe2\x82"), 2u);
  EXPECT_EQ(utf8_incomplete_tail("\xf0\x9f\x98"), 3u);
  EXPECT_EQ(utf8_incomplete_tail("\xf0\x9f\x98\x80"), 0u);
  EXPECT_EQ(utf8_incomplete_tail("a\x80"), 0u);     // never completable
  EXPECT_EQ(utf8_incomplete_tail("\xed\xa0"), 0u);  // a surrogate begins: no byte can save it
  EXPECT_EQ(utf8_incomplete_tail("\x80\x80\x80\x80"), 0u);
  EXPECT_TRUE(utf8_is_complete("\xc3\xa4"));
  EXPECT_FALSE(utf8_is_complete("\xc3"));
}

TEST(Utf8, EverySplitOfATextIsSeen) {
  const std::string text = "a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80z";
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    const std::string_view head = std::string_view(text).substr(0, cut);
    EXPECT_EQ(utf8_valid_prefix(head) + utf8_incomplete_tail(head), cut);
  }
}

TEST(Utf8, SanitizeReplacesMaximalParts) {
  EXPECT_EQ(utf8_sanitize("ok \xc3\xa4"), "ok \xc3\xa4");
  EXPECT_EQ(utf8_sanitize("a\xffz"), "a\xef\xbf\xbdz");
  EXPECT_EQ(utf8_sanitize("\xe2\x82z"), "\xef\xbf\xbdz");                            // one for a truncated character
  EXPECT_EQ(utf8_sanitize("\xed\xa0\x80"), "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");  // one for each byte of a surrogate
  EXPECT_TRUE(utf8_is_valid(utf8_sanitize("\xf0\x80\x80\xc1\xfe\xc3")));
}

}  // namespace
}  // namespace bittern
