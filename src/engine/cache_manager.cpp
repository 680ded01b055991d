// A free stack and a count per block; every operation is linear in the blocks it touches.
#include "engine/cache_manager.h"

#include <algorithm>

#include "base/check.h"

namespace bittern::engine {

CacheManager::CacheManager(std::int64_t blocks, int block_tokens)
    : block_tokens_(block_tokens), references_(static_cast<std::size_t>(blocks)) {
  BITTERN_CHECK(blocks > 0 && block_tokens > 0, "{} blocks of {} tokens", blocks, block_tokens);
  free_.reserve(references_.size());
  for (std::int64_t block = blocks - 1; block >= 0; --block) free_.push_back(static_cast<std::int32_t>(block));
}

bool CacheManager::extend(BlockTable& table, std::int64_t count) {
  if (count > available()) return false;
  for (; count > 0; --count) {
    const std::int32_t block = free_.back();
    free_.pop_back();
    references_[static_cast<std::size_t>(block)] = 1;
    table.push_back(block);
  }
  return true;
}

void CacheManager::share(const BlockTable& from, std::int64_t count, BlockTable& table) {
  BITTERN_CHECK(table.empty() && count <= static_cast<std::int64_t>(from.size()));
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int32_t block = from[static_cast<std::size_t>(i)];
    ++references_[static_cast<std::size_t>(block)];
    table.push_back(block);
  }
}

void CacheManager::release(BlockTable& table) {
  for (std::int32_t block : table) {
    std::int32_t& count = references_[static_cast<std::size_t>(block)];
    BITTERN_CHECK(count > 0, "block {} was freed twice", block);
    if (--count == 0) free_.push_back(block);
  }
  table.clear();
}

std::int64_t CacheManager::exclusive(const BlockTable& table) const {
  return std::count_if(table.begin(), table.end(), [&](std::int32_t block) { return references(block) == 1; });
}

}  // namespace bittern::engine
