// A free stack, a count per block, and for the prefix cache a hash table and a list in order of use, both threaded
// through the blocks: nothing allocates after construction, and every operation is linear in the blocks it touches.
//
// Who has a known block has the ones before it too, so a block is never released after its parent: in the list a child
// stands before its parent, and the oldest block is always a leaf that can be taken.
#include "engine/cache_manager.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <utility>

#include "base/check.h"

namespace bittern::engine {

CacheManager::CacheManager(std::int64_t blocks, int block_tokens) : block_tokens_(block_tokens) {
  BITTERN_CHECK(blocks > 0 && block_tokens > 0, "{} blocks of {} tokens", blocks, block_tokens);
  const auto count = static_cast<std::size_t>(blocks);
  blocks_.resize(count);
  tokens_.resize(count * static_cast<std::size_t>(block_tokens));
  buckets_.assign(std::bit_ceil(count), kNone);
  free_.reserve(count);
  for (std::int64_t block = blocks - 1; block >= 0; --block) free_.push_back(static_cast<std::int32_t>(block));
}

bool CacheManager::extend(BlockTable& table, std::int64_t count) {
  if (count > available()) return false;
  for (; count > 0; --count) {
    const std::int32_t block = take();
    at(block).references = 1;
    table.push_back(block);
  }
  return true;
}

std::int32_t CacheManager::take() {
  if (free_.empty()) forget(oldest_);
  const std::int32_t block = free_.back();
  free_.pop_back();
  return block;
}

void CacheManager::share(const BlockTable& from, std::int64_t count, BlockTable& table) {
  BITTERN_CHECK(table.empty() && count <= static_cast<std::int64_t>(from.size()));
  for (std::int64_t i = 0; i < count; ++i) {
    add_reference(from[static_cast<std::size_t>(i)]);
    table.push_back(from[static_cast<std::size_t>(i)]);
  }
}

// From the end, so that children are released before their parents.
void CacheManager::release(BlockTable& table) {
  for (auto block = table.rbegin(); block != table.rend(); ++block) drop_reference(*block);
  table.clear();
}

void CacheManager::add_reference(std::int32_t block) {
  if (at(block).references++ == 0) unlink(block);
}

void CacheManager::drop_reference(std::int32_t block) {
  Block& b = at(block);
  BITTERN_CHECK(b.references > 0, "block {} was freed twice", block);
  if (--b.references > 0) return;
  if (b.known) {
    append_newest(block);
  } else {
    free_.push_back(block);
  }
}

std::int64_t CacheManager::exclusive(const BlockTable& table) const {
  return std::count_if(table.begin(), table.end(), [&](std::int32_t block) { return references(block) == 1; });
}

// --- The prefix cache --------------------------------------------------------------------------------------------

std::span<std::int32_t> CacheManager::tokens_of(std::int32_t block) {
  const auto size = static_cast<std::size_t>(block_tokens_);
  return std::span(tokens_).subspan(static_cast<std::size_t>(block) * size, size);
}

std::span<const std::int32_t> CacheManager::tokens_of(std::int32_t block) const {
  return const_cast<CacheManager*>(this)->tokens_of(block);
}

// The multiplier and the final mix are those of MurmurHash3's 64-bit finalizer; tokens are compared anyway.
std::uint64_t CacheManager::hash_after(std::int32_t parent, std::span<const std::int32_t> tokens,
                                       const CacheSalt& salt) const {
  std::uint64_t hash = 0x9E3779B97F4A7C15u;
  if (parent != kNone) {
    hash = at(parent).hash;
  } else if (salt != nullptr) {
    hash ^= std::hash<std::string>()(*salt);
  }
  for (const std::int32_t token : tokens) {
    hash = (hash ^ static_cast<std::uint32_t>(token)) * 0xFF51AFD7ED558CCDu;
    hash ^= hash >> 33;
  }
  hash *= 0xC4CEB9FE1A85EC53u;
  return hash ^ (hash >> 33);
}

std::int32_t CacheManager::find(std::int32_t parent, std::span<const std::int32_t> tokens,
                                const CacheSalt& salt) const {
  const auto same_salt = [&](const CacheSalt& other) {
    return salt == other || (salt != nullptr && other != nullptr && *salt == *other);
  };
  const std::uint64_t hash = hash_after(parent, tokens, salt);
  for (std::int32_t block = buckets_[hash & (buckets_.size() - 1)]; block != kNone; block = at(block).chain) {
    const Block& b = at(block);
    if (b.hash != hash || b.parent != parent || !std::ranges::equal(tokens_of(block), tokens)) continue;
    if (parent != kNone || same_salt(b.salt)) return block;
  }
  return kNone;
}

CacheManager::Match CacheManager::match(std::span<const std::int32_t> tokens, const CacheSalt& salt) const {
  Match match;
  std::int32_t parent = kNone;
  const auto size = static_cast<std::size_t>(block_tokens_);
  for (; tokens.size() >= size; tokens = tokens.subspan(size)) {
    parent = find(parent, tokens.first(size), salt);
    if (parent == kNone) break;
    ++match.blocks;
    match.active += references(parent) > 0 ? 1 : 0;
  }
  return match;
}

void CacheManager::share_known(std::span<const std::int32_t> tokens, const CacheSalt& salt, std::int64_t count,
                               BlockTable& table) {
  BITTERN_CHECK(table.empty());
  std::int32_t parent = kNone;
  const auto size = static_cast<std::size_t>(block_tokens_);
  for (std::int64_t i = 0; i < count; ++i, tokens = tokens.subspan(size)) {
    parent = find(parent, tokens.first(size), salt);
    BITTERN_CHECK(parent != kNone, "block {} of {} is not known", i, count);
    add_reference(parent);
    table.push_back(parent);
  }
}

void CacheManager::remember(BlockTable& table, std::int64_t index, std::span<const std::int32_t> tokens,
                            const CacheSalt& salt) {
  std::int32_t& own = table[static_cast<std::size_t>(index)];
  const std::int32_t parent = index == 0 ? kNone : table[static_cast<std::size_t>(index - 1)];
  BITTERN_CHECK(!known(own) && (parent == kNone || known(parent)) && static_cast<int>(tokens.size()) == block_tokens_);
  if (const std::int32_t same = find(parent, tokens, salt); same != kNone) {
    add_reference(same);
    drop_reference(own);
    own = same;
    return;
  }
  Block& b = at(own);
  b.known = true;
  b.hash = hash_after(parent, tokens, salt);
  b.parent = parent;
  if (parent == kNone) b.salt = salt;
  b.chain = std::exchange(bucket(b.hash), own);
  std::ranges::copy(tokens, tokens_of(own).begin());
}

void CacheManager::append_newest(std::int32_t block) {
  Block& b = at(block);
  b.older = newest_;
  b.newer = kNone;
  (newest_ == kNone ? oldest_ : at(newest_).newer) = block;
  newest_ = block;
  ++cached_;
}

void CacheManager::unlink(std::int32_t block) {
  const Block& b = at(block);
  (b.older == kNone ? oldest_ : at(b.older).newer) = b.newer;
  (b.newer == kNone ? newest_ : at(b.newer).older) = b.older;
  --cached_;
}

// A cached block becomes a free one.
void CacheManager::forget(std::int32_t block) {
  unlink(block);
  Block& b = at(block);
  std::int32_t* link = &bucket(b.hash);
  while (*link != block) link = &at(*link).chain;
  *link = b.chain;
  b.known = false;
  b.salt = nullptr;
  free_.push_back(block);
}

void CacheManager::check_integrity() const {
  std::int64_t active = 0, listed = 0, known_blocks = 0;
  for (const Block& b : blocks_) {
    active += b.references > 0 ? 1 : 0;
    known_blocks += b.known ? 1 : 0;
    BITTERN_CHECK(!b.known || b.parent == kNone || known(b.parent), "a known block follows one that is not");
    BITTERN_CHECK(!b.known || b.parent == kNone || references(b.parent) >= b.references, "a block outlives its parent");
  }
  std::vector<bool> seen(blocks_.size());
  for (std::int32_t block = oldest_; block != kNone; block = at(block).newer, ++listed) {
    const Block& b = at(block);
    BITTERN_CHECK(b.known && b.references == 0, "block {} is in the list of cached ones", block);
    BITTERN_CHECK(b.parent == kNone || !seen[static_cast<std::size_t>(b.parent)], "block {} would outlive {}", block,
                  b.parent);
    seen[static_cast<std::size_t>(block)] = true;
  }
  for (const std::int32_t block : free_) BITTERN_CHECK(references(block) == 0 && !known(block), "block {}", block);
  std::int64_t chained = 0;
  for (std::int32_t head : buckets_) {
    for (std::int32_t block = head; block != kNone; block = at(block).chain, ++chained) BITTERN_CHECK(known(block));
  }
  BITTERN_CHECK(listed == cached_ && chained == known_blocks, "{} cached, {} listed, {} known, {} chained", cached_,
                listed, known_blocks, chained);
  BITTERN_CHECK(free() + cached() + active == total(), "{} free, {} cached and {} active blocks are not {}", free(),
                cached(), active, total());
}

}  // namespace bittern::engine
