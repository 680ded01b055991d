// CacheManager: blocks are handed out once, shared by count, and come back exactly when nobody refers to them.
#include "engine/cache_manager.h"

#include <gtest/gtest.h>

#include <set>

#include "base/random.h"

namespace bittern::engine {
namespace {

TEST(CacheManager, HandsOutEveryBlockOnce) {
  CacheManager cache(5, 16);
  BlockTable a, b;
  EXPECT_TRUE(cache.extend(a, 3));
  EXPECT_TRUE(cache.extend(b, 2));
  std::set<std::int32_t> all(a.begin(), a.end());
  all.insert(b.begin(), b.end());
  EXPECT_EQ(all, (std::set<std::int32_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(cache.available(), 0);
  EXPECT_EQ(cache.used(), 5);
}

TEST(CacheManager, RefusesWithoutChangingAnything) {
  CacheManager cache(4, 16);
  BlockTable a;
  ASSERT_TRUE(cache.extend(a, 3));
  const BlockTable before = a;
  EXPECT_FALSE(cache.extend(a, 2));
  EXPECT_EQ(a, before);
  EXPECT_EQ(cache.available(), 1);
  EXPECT_TRUE(cache.extend(a, 0));
}

TEST(CacheManager, CountsBlocksForTokens) {
  CacheManager cache(4, 16);
  EXPECT_EQ(cache.blocks_for(0), 0);
  EXPECT_EQ(cache.blocks_for(1), 1);
  EXPECT_EQ(cache.blocks_for(16), 1);
  EXPECT_EQ(cache.blocks_for(17), 2);
}

TEST(CacheManager, SharedBlocksComeBackWithTheLastHolder) {
  CacheManager cache(6, 16);
  BlockTable owner, reader;
  ASSERT_TRUE(cache.extend(owner, 3));
  cache.share(owner, 2, reader);
  ASSERT_TRUE(cache.extend(reader, 1));
  EXPECT_EQ(cache.references(owner[0]), 2);
  EXPECT_EQ(cache.references(owner[2]), 1);
  EXPECT_EQ(cache.used(), 4);
  EXPECT_EQ(cache.exclusive(owner), 1);
  cache.release(owner);
  EXPECT_TRUE(owner.empty());
  EXPECT_EQ(cache.used(), 3);
  EXPECT_EQ(cache.exclusive(reader), 3);
  cache.release(reader);
  EXPECT_EQ(cache.available(), 6);
}

TEST(CacheManagerDeathTest, FreeingTwiceIsCaught) {
  CacheManager cache(2, 16);
  BlockTable a;
  ASSERT_TRUE(cache.extend(a, 1));
  BlockTable copy = a;
  cache.release(a);
  EXPECT_DEATH(cache.release(copy), "freed twice");
}

TEST(CacheManager, RandomUseKeepsTheBooks) {
  CacheManager cache(23, 4);
  Random random(5);
  std::vector<BlockTable> tables(6);
  for (int i = 0; i < 5000; ++i) {
    BlockTable& table = tables[random.next_below(6)];
    const BlockTable& other = tables[random.next_below(6)];
    switch (random.next_below(3)) {
      case 0: cache.extend(table, random.next_below(5)); break;
      case 1: cache.release(table); break;
      default:
        if (table.empty() && &other != &table) {
          cache.share(other, random.next_below(static_cast<std::uint32_t>(other.size()) + 1), table);
        }
    }
    std::vector<int> holders(23);
    for (const BlockTable& t : tables) {
      for (std::int32_t block : t) ++holders[static_cast<std::size_t>(block)];
    }
    std::int64_t used = 0;
    for (std::int32_t block = 0; block < 23; ++block) {
      ASSERT_EQ(cache.references(block), holders[static_cast<std::size_t>(block)]);
      used += holders[static_cast<std::size_t>(block)] > 0;
    }
    ASSERT_EQ(cache.used(), used);
    ASSERT_EQ(cache.available() + cache.used(), cache.total());
  }
}

}  // namespace
}  // namespace bittern::engine
