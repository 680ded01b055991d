// CacheManager: blocks are handed out once, shared by count, and come back exactly when nobody refers to them.
#include "engine/cache_manager.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>

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

// --- The prefix cache ---

using Tokens = std::vector<std::int32_t>;

// A table of full blocks with these tokens, all of them remembered.
BlockTable remembered(CacheManager& cache, const Tokens& tokens, const CacheSalt& salt = nullptr) {
  BlockTable table;
  const auto size = static_cast<std::size_t>(cache.block_tokens());
  EXPECT_TRUE(cache.extend(table, static_cast<std::int64_t>(tokens.size() / size)));
  for (std::size_t i = 0; i < table.size(); ++i) {
    cache.remember(table, static_cast<std::int64_t>(i), std::span(tokens).subspan(i * size, size), salt);
  }
  cache.check_integrity();
  return table;
}

TEST(PrefixCache, FindsTheLongestPrefixInFullBlocks) {
  CacheManager cache(8, 2);
  BlockTable table = remembered(cache, {1, 2, 3, 4, 5, 6});
  EXPECT_EQ(cache.match(Tokens{1, 2, 3, 4, 5, 6}, nullptr).blocks, 3);
  EXPECT_EQ(cache.match(Tokens{1, 2, 3, 4, 5}, nullptr).blocks, 2);
  EXPECT_EQ(cache.match(Tokens{1, 2, 9, 4}, nullptr).blocks, 1);
  EXPECT_EQ(cache.match(Tokens{3, 4}, nullptr).blocks, 0);  // the same tokens at another place
  EXPECT_EQ(cache.match(Tokens{1, 2, 3, 4}, nullptr).active, 2);
  cache.release(table);
  EXPECT_EQ(cache.match(Tokens{1, 2, 3, 4}, nullptr).active, 0);
  EXPECT_EQ(cache.match(Tokens{1, 2, 3, 4}, nullptr).blocks, 2);
}

TEST(PrefixCache, ReleasedBlocksAreCachedAndSharedAgain) {
  CacheManager cache(4, 2);
  BlockTable first = remembered(cache, {1, 2, 3, 4});
  const BlockTable blocks = first;
  cache.release(first);
  EXPECT_EQ(cache.cached(), 2);
  EXPECT_EQ(cache.available(), 4);
  BlockTable second;
  cache.share_known(Tokens{1, 2, 3, 4, 5}, nullptr, 2, second);
  EXPECT_EQ(second, blocks);
  EXPECT_EQ(cache.cached(), 0);
  EXPECT_EQ(cache.used(), 2);
  cache.check_integrity();
}

TEST(PrefixCache, TakesTheLeafThatWasUsedLongestAgo) {
  CacheManager cache(5, 2);
  BlockTable a = remembered(cache, {1, 2, 3, 4}), b = remembered(cache, {1, 2, 7, 8});
  EXPECT_EQ(cache.used(), 3);  // the first block is one
  cache.release(a);
  cache.release(b);
  BlockTable fresh;
  ASSERT_TRUE(cache.extend(fresh, 3));  // two free ones, then the leaf of `a`
  EXPECT_EQ(cache.match(Tokens{1, 2, 3, 4}, nullptr).blocks, 1);
  EXPECT_EQ(cache.match(Tokens{1, 2, 7, 8}, nullptr).blocks, 2);
  ASSERT_TRUE(cache.extend(fresh, 2));
  EXPECT_EQ(cache.match(Tokens{1, 2, 7, 8}, nullptr).blocks, 0);
  EXPECT_FALSE(cache.extend(fresh, 1));
  cache.check_integrity();
}

TEST(PrefixCache, ASecondBlockOfTheSameTokensGivesWay) {
  CacheManager cache(6, 2);
  const BlockTable a = remembered(cache, {1, 2, 3, 4});
  const BlockTable b = remembered(cache, {1, 2, 3, 4});
  EXPECT_EQ(a, b);
  EXPECT_EQ(cache.references(a[0]), 2);
  EXPECT_EQ(cache.used(), 2);
}

TEST(PrefixCache, SaltsAreApart) {
  CacheManager cache(9, 2);
  const auto salt = [](const char* text) { return std::make_shared<const std::string>(text); };
  const BlockTable a = remembered(cache, {1, 2}, salt("a")), b = remembered(cache, {1, 2}, salt("b"));
  const BlockTable common = remembered(cache, {1, 2});
  EXPECT_EQ((std::set<std::int32_t>{a[0], b[0], common[0]}).size(), 3u);
  EXPECT_EQ(cache.match(Tokens{1, 2}, salt("a")).blocks, 1);  // another string of the same letters
  EXPECT_EQ(cache.match(Tokens{1, 2}, salt("c")).blocks, 0);
}

// Random sequences of few tokens, so that prefixes meet, come and go; every block must hold what its holders believe.
TEST(PrefixCache, RandomUseKeepsEveryPromise) {
  Random random(11);
  constexpr int kSize = 2;
  std::int64_t found = 0, evicted = 0;
  for (int world = 0; world < 60; ++world) {
    CacheManager cache(4 + random.next_below(20), kSize);
    std::vector<Tokens> contents(static_cast<std::size_t>(cache.total()));
    struct Holder {
      Tokens tokens;
      BlockTable table;
    };
    std::vector<Holder> holders;
    for (int step = 0; step < 200; ++step) {
      if (!holders.empty() && random.next_below(3) == 0) {
        const std::size_t i = random.next_below(static_cast<std::uint32_t>(holders.size()));
        cache.release(holders[i].table);
        holders.erase(holders.begin() + static_cast<std::ptrdiff_t>(i));
      } else {
        Holder holder;
        const std::int64_t blocks = 1 + random.next_below(4);
        for (std::int64_t i = 0; i < blocks * kSize; ++i) {
          holder.tokens.push_back(static_cast<std::int32_t>(random.next_below(2)));
        }
        const std::int64_t known = cache.match(holder.tokens, nullptr).blocks;
        cache.share_known(holder.tokens, nullptr, known, holder.table);
        found += known;
        const std::int64_t cached = cache.cached();
        if (!cache.extend(holder.table, blocks - known)) {
          cache.release(holder.table);
        } else {
          evicted += cached - cache.cached();
          for (std::int64_t i = known; i < blocks; ++i) {
            const auto at = static_cast<std::size_t>(i);
            const auto own = std::span(holder.tokens).subspan(at * kSize, kSize);
            contents[static_cast<std::size_t>(holder.table[at])].assign(own.begin(), own.end());
            cache.remember(holder.table, i, own, nullptr);
          }
          holders.push_back(std::move(holder));
        }
      }
      cache.check_integrity();
      for (const Holder& holder : holders) {
        for (std::size_t i = 0; i < holder.table.size(); ++i) {
          const auto own = std::span(holder.tokens).subspan(i * kSize, kSize);
          ASSERT_TRUE(std::ranges::equal(contents[static_cast<std::size_t>(holder.table[i])], own));
        }
      }
    }
  }
  EXPECT_GT(found, 500);
  EXPECT_GT(evicted, 200);
}

}  // namespace
}  // namespace bittern::engine
