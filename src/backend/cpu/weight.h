// CpuWeight: a linear weight or table as the CPU kernels read it. A linear is packed in tiles of sixteen outputs (see
// kernels/kernels.h, TileKind), the same for every instruction set; a table that only serves embed keeps its rows.
// A tied table is packed once, in tiles, and embed gathers its rows out of them.
#pragma once

#include "backend/backend.h"
#include "backend/cpu/kernels/kernels.h"
#include "base/buffer.h"
#include "base/thread_pool.h"

namespace bittern::cpu {

class CpuWeight final : public PackedWeight {
 public:
  /// Packs in tiles, in parallel. 4-bit groups whose size is not a multiple of 8 inputs do not fit tiles and are
  /// decoded to f32, which costs memory but no accuracy. Error(unsupported) names an element type that is not a float.
  static std::unique_ptr<CpuWeight> tiles(const Weight& weight, ThreadPool& pool);
  /// Copies the rows as they are (dense formats), for embed alone.
  static std::unique_ptr<CpuWeight> rows(const Weight& weight, ThreadPool& pool);

  std::int64_t bytes() const override { return static_cast<std::int64_t>(memory_.size()); }
  bool tiled() const { return tiled_; }
  TileKind kind() const { return kind_; }
  /// Tiles of sixteen outputs; lanes past the last output hold zeros.
  Index tile_count() const { return (out() + kTileOutputs - 1) / kTileOutputs; }
  Index tile_bytes() const { return tile_bytes_; }
  const std::uint8_t* data() const { return reinterpret_cast<const std::uint8_t*>(memory_.data()); }
  Index group() const { return group_; }
  Index groups() const { return groups_; }
  bool scales_f16() const { return scales_f16_; }
  /// Inputs of one step: rows of x must be readable, as zeros, up to a multiple of it.
  Index step_inputs() const;

  /// One row, decoded: f32 (in).
  void decode_row(Index row, float* out) const;

 private:
  CpuWeight(const Weight& weight, bool tiled);
  void plan_tiles(const Weight& weight);
  void pack_tile(const Weight& weight, Index tile);
  void pack_dense_tile(const Weight& weight, Index tile);
  void pack_w4_tile(const Weight& weight, Index tile);
  void pack_w4_header(const Weight& weight, Index tile, Index g, std::uint8_t* header);
  void decode_tile_row(Index row, float* out) const;
  void decode_w4_row(Index row, float* out) const;

  bool tiled_;
  TileKind kind_ = TileKind::f32;
  Index tile_bytes_ = 0;
  Index group_ = 0, groups_ = 0;
  bool scales_f16_ = false;
  AlignedBuffer memory_;
};

/// The CpuWeight behind a PackedWeight; a weight of another backend is a bug of the caller.
const CpuWeight& cpu_weight(const PackedWeight& weight);

}  // namespace bittern::cpu
