// Attention on the CPU: cuts a step into tasks and shares them among threads. A task is a few query rows of one KV head
// (all query heads that share it, so that its keys are read once) against a range of chunks of the context; chunks are
// cut at fixed absolute positions and merged in order, so the cutting never changes a result.
// The arithmetic is in kernels/attention.cpp.
#pragma once

#include <vector>

#include "backend/cpu/isa.h"
#include "backend/cpu/kv_pool.h"
#include "backend/cpu/scratch.h"
#include "base/thread_pool.h"

namespace bittern::cpu {

class AttentionRunner {
 public:
  AttentionRunner(IsaLevel isa, ThreadPool& pool) : table_(kernel_table(isa)), pool_(pool) {}

  void run(const AttentionArgs& args, const BatchView& batch, const CpuKvPool& kv);

 private:
  /// Query rows [row, row + rows) of a sequence and KV head; row r is query token r / sharing, head r % sharing.
  struct Tile {
    int sequence, head;
    Index row, rows;
    Index chunk_begin, chunk_end;
    Index first_piece, pieces;
  };
  /// A tile against some of its chunks.
  struct Piece {
    Index tile;
    Index chunk_begin, chunk_end;
  };
  struct Step;

  void plan_tiles(const Step& step);
  void plan_pieces();
  void run_piece(const Step& step, Index piece, int worker);
  void finish_tile(const Step& step, const Tile& tile);

  const KernelTable& table_;
  ThreadPool& pool_;
  std::vector<Tile> tiles_;    // of the current call; kept for its memory
  std::vector<Piece> pieces_;  // grouped by tile, in order of chunks
  Scratch states_, workers_;
};

}  // namespace bittern::cpu
