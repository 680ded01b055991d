// CacheManager: which block of the KV pool belongs to whom. It counts references, so that sequences share full blocks
// of a common prefix, and moves ids between a free list, block tables and the prefix cache: full blocks that outlive
// their sequence and are found by their tokens. The memory itself is the backend's. A block is written by one sequence
// alone and only full ones are shared, so nothing is ever copied.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace bittern::engine {

/// Blocks of one sequence, in order of position.
using BlockTable = std::vector<std::int32_t>;

/// Sequences of different salts share nothing; null is the common salt.
using CacheSalt = std::shared_ptr<const std::string>;

/// A block is in one of three states. **active**: some table has it. **cached**: no table has it, but its tokens are
/// known and it can be shared; the one that was used longest ago is taken when no block is free. **free**: neither.
/// An active block may be known too (it is cached once it is released).
class CacheManager {
 public:
  CacheManager(std::int64_t blocks, int block_tokens);

  int block_tokens() const { return block_tokens_; }
  std::int64_t total() const { return static_cast<std::int64_t>(blocks_.size()); }
  std::int64_t free() const { return static_cast<std::int64_t>(free_.size()); }
  std::int64_t cached() const { return cached_; }
  /// Blocks that extend() can give: free ones, and cached ones.
  std::int64_t available() const { return free() + cached(); }
  std::int64_t used() const { return total() - available(); }
  /// Blocks that hold `tokens` tokens.
  std::int64_t blocks_for(std::int64_t tokens) const { return (tokens + block_tokens_ - 1) / block_tokens_; }

  /// Appends `count` fresh blocks to `table`; false, and nothing changed, when fewer are available.
  bool extend(BlockTable& table, std::int64_t count);
  /// Puts the first `count` blocks of `from` into `table`, which must be empty. They must be full and stay unwritten.
  void share(const BlockTable& from, std::int64_t count, BlockTable& table);
  /// Drops the table's references and empties it; blocks that nobody refers to any more are available at once.
  void release(BlockTable& table);

  int references(std::int32_t block) const { return at(block).references; }
  /// Blocks that release(table) would make available.
  std::int64_t exclusive(const BlockTable& table) const;

  // --- The prefix cache ---
  /// What is known of a prefix: how many full blocks, and how many of them are active.
  struct Match {
    std::int64_t blocks = 0;
    std::int64_t active = 0;
  };
  /// The longest known prefix of `tokens`, in full blocks. Tokens are compared, so a match is certain.
  Match match(std::span<const std::int32_t> tokens, const CacheSalt& salt) const;
  /// Puts the first `count` known blocks of `tokens`, as match() found them, into `table`, which must be empty.
  void share_known(std::span<const std::int32_t> tokens, const CacheSalt& salt, std::int64_t count, BlockTable& table);
  /// Makes block `index` of `table` known: it is full, holds `tokens` (block_tokens of them), and the blocks before it
  /// are known. When another block is known for the same prefix, the table gets that one in its place.
  void remember(BlockTable& table, std::int64_t index, std::span<const std::int32_t> tokens, const CacheSalt& salt);

  bool known(std::int32_t block) const { return at(block).known; }
  /// Aborts, saying what is wrong, unless free + cached + active = total and every list and chain is as it should be.
  void check_integrity() const;

 private:
  static constexpr std::int32_t kNone = -1;

  struct Block {
    std::int32_t references = 0;
    bool known = false;
    // Of known blocks:
    std::uint64_t hash = 0;       // of salt and all tokens up to its end
    std::int32_t parent = kNone;  // the known block before it
    std::int32_t chain = kNone;   // the next of the same bucket
    CacheSalt salt;               // of first blocks; later ones follow their parent
    // Of cached blocks, neighbours in order of use:
    std::int32_t older = kNone, newer = kNone;
  };

  Block& at(std::int32_t block) { return blocks_[static_cast<std::size_t>(block)]; }
  const Block& at(std::int32_t block) const { return blocks_[static_cast<std::size_t>(block)]; }
  std::span<std::int32_t> tokens_of(std::int32_t block);
  std::span<const std::int32_t> tokens_of(std::int32_t block) const;
  std::int32_t& bucket(std::uint64_t hash) { return buckets_[hash & (buckets_.size() - 1)]; }
  std::uint64_t hash_after(std::int32_t parent, std::span<const std::int32_t> tokens, const CacheSalt& salt) const;
  std::int32_t find(std::int32_t parent, std::span<const std::int32_t> tokens, const CacheSalt& salt) const;
  std::int32_t take();
  void add_reference(std::int32_t block);
  void drop_reference(std::int32_t block);
  void append_newest(std::int32_t block);
  void unlink(std::int32_t block);
  void forget(std::int32_t block);

  int block_tokens_;
  std::vector<std::int32_t> free_;     // a stack: the block freed last is the likeliest to be in a processor's cache
  std::vector<Block> blocks_;          // (total)
  std::vector<std::int32_t> tokens_;   // (total, block_tokens) of known blocks
  std::vector<std::int32_t> buckets_;  // heads of chains of known blocks, by hash; a power of two of them
  std::int32_t oldest_ = kNone, newest_ = kNone;
  std::int64_t cached_ = 0;
};

}  // namespace bittern::engine
