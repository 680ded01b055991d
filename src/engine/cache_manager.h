// CacheManager: which block of the KV pool belongs to whom. It counts references, so that samples of one prompt share
// its full blocks, and moves ids between a free list and block tables; the memory itself is the backend's. A block is
// written by one sequence alone: only full blocks are shared, so nothing is ever copied.
#pragma once

#include <cstdint>
#include <vector>

namespace bittern::engine {

/// Blocks of one sequence, in order of position.
using BlockTable = std::vector<std::int32_t>;

class CacheManager {
 public:
  CacheManager(std::int64_t blocks, int block_tokens);

  int block_tokens() const { return block_tokens_; }
  std::int64_t total() const { return static_cast<std::int64_t>(references_.size()); }
  std::int64_t available() const { return static_cast<std::int64_t>(free_.size()); }
  std::int64_t used() const { return total() - available(); }
  /// Blocks that hold `tokens` tokens.
  std::int64_t blocks_for(std::int64_t tokens) const { return (tokens + block_tokens_ - 1) / block_tokens_; }

  /// Appends `count` fresh blocks to `table`; false, and nothing changed, when fewer are available.
  bool extend(BlockTable& table, std::int64_t count);
  /// Puts the first `count` blocks of `from` into `table`, which must be empty. They must be full and stay unwritten.
  void share(const BlockTable& from, std::int64_t count, BlockTable& table);
  /// Drops the table's references and empties it; blocks that nobody refers to any more are available at once.
  void release(BlockTable& table);

  int references(std::int32_t block) const { return references_[static_cast<std::size_t>(block)]; }
  /// Blocks that release(table) would make available.
  std::int64_t exclusive(const BlockTable& table) const;

 private:
  int block_tokens_;
  std::vector<std::int32_t> free_;        // a stack: the block freed last is the likeliest to be in a cache
  std::vector<std::int32_t> references_;  // (total)
};

}  // namespace bittern::engine
