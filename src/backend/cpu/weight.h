// CpuWeight: a linear weight or table as the CPU kernels read it. A linear is packed in tiles of sixteen outputs (see
// kernels/kernels.h, TileKind), the same for every instruction set; a table that only serves embed keeps its rows.
// A tied table is packed once, in tiles, and embed gathers its rows out of them.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/kernels/kernels.h"
#include "base/buffer.h"
#include "base/thread_pool.h"

namespace bittern::cpu {

/// What the choice of a kernel depends on.
struct Packing {
  TileKind kind;
  bool offsets = false;  // grouped: real offsets in place of zeros
  bool w8a8 = false;     // w8 with zeros, of a format made for 8-bit activations, in groups an int32 can sum
  Index group = 0;       // grouped: inputs that share a scale
};

class CpuWeight final : public PackedWeight {
 public:
  /// Packs in tiles, in parallel. Groups start on a step of their tiles, so a group size must be a multiple of 8 for
  /// nibbles and of 4 for bytes; others (and e4m3 with NaN codes) are decoded to f32, which costs memory but no
  /// accuracy. Columns keep their order: of a weight with an input_order the caller gathers x by input_order().
  /// Error(unsupported) names an element type that is not a float.
  static std::unique_ptr<CpuWeight> tiles(const Weight& weight, ThreadPool& pool);
  /// Copies the rows as they are (dense formats), for embed alone.
  static std::unique_ptr<CpuWeight> rows(const Weight& weight, ThreadPool& pool);

  /// Name and version of the layouts that TileKind and GroupHeader describe. Whoever changes them raises the version:
  /// workspaces hold such bytes, and a test compares digests of packed weights.
  static PackingLayout layout() { return {"cpu-tiles16", 1}; }
  /// Nothing for a weight that was decoded to f32, whose codes are gone.
  std::optional<SavedPacking> save() const;
  /// Over the bytes of `saved`, which must be of layout(). Error(invalid_checkpoint) when they do not fit the format.
  static std::unique_ptr<CpuWeight> adopt(const SavedPacking& saved);
  /// The weight as it was before packing; for dense rows a view of the bytes.
  Weight unpack(std::string name) const;

  std::int64_t bytes() const override { return static_cast<std::int64_t>(bytes_.size()); }
  bool mapped() const override { return keep_ != nullptr; }
  bool tiled() const { return tiled_; }
  TileKind kind() const { return kind_; }
  Packing packing() const {
    const bool offsets = header_ == GroupHeader::f32_offsets;
    const bool w8a8 = format().int8_activations && kind_ == TileKind::w8 && !offsets && group_ <= kW8A8MaxGroup;
    return {kind_, offsets, w8a8, group_};
  }
  bool grouped() const { return kind_ >= TileKind::w4; }
  /// Tiles of sixteen outputs; lanes past the last output hold zeros.
  Index tile_count() const { return (out() + kTileOutputs - 1) / kTileOutputs; }
  Index tile_bytes() const { return tile_bytes_; }
  const std::uint8_t* data() const { return reinterpret_cast<const std::uint8_t*>(bytes_.data()); }
  Index group() const { return group_; }
  Index groups() const { return groups_; }
  GroupHeader header() const { return header_; }
  /// What stored codes lack of q, see LinearArgs.
  float center() const { return static_cast<float>(center_); }
  /// t4: the numbers the nibbles stand for.
  const float* table() const { return table_.data(); }
  /// Column j multiplies input input_order()[j]; empty where that is j.
  const std::vector<std::int32_t>& input_order() const { return input_order_; }
  /// Inputs of one step: rows of x must be readable, as zeros, up to a multiple of it.
  Index step_inputs() const;

  /// One row, decoded: f32 (in).
  void decode_row(Index row, float* out) const;

 private:
  CpuWeight(const Weight& weight, bool tiled);
  CpuWeight(const SavedPacking& saved, bool tiled, TileKind kind, GroupHeader header);
  void plan_tiles(const Weight& weight);
  void plan_header(const Weight& weight);
  void plan_sizes();
  void own(std::size_t bytes);
  bool holds_codes() const { return (format().kind == FormatKind::grouped) == grouped(); }
  void unpack_lane(Weight& weight, Index row) const;
  void unpack_grouped_lane(Weight& weight, Index row) const;
  void unpack_header(Weight& weight, Index row, Index g, const std::uint8_t* header) const;
  void unpack_step(Weight& weight, Index row, Index k, Index end, const std::uint8_t* step) const;
  void pack_tile(const Weight& weight, Index tile);
  void pack_dense_tile(const Weight& weight, Index tile);
  void pack_grouped_tile(const Weight& weight, Index tile);
  void pack_header(const Weight& weight, Index row, Index lane, Index g, std::uint8_t* header) const;
  void pack_step(const Weight& weight, Index row, Index lane, Index k, Index end, std::uint8_t* step) const;
  Index header_size() const { return header_ == GroupHeader::f16_zeros ? 64 : 128; }
  void decode_tile_row(Index row, float* out) const;
  void decode_grouped_row(Index row, float* out) const;
  int stored_code(const std::uint8_t* step, Index lane, Index j) const;
  float decode_code(int stored, const std::uint8_t* header, Index lane) const;

  bool tiled_;
  TileKind kind_ = TileKind::f32;
  Index tile_bytes_ = 0;
  Index group_ = 0, groups_ = 0;
  GroupHeader header_ = GroupHeader::f32_zeros;
  int center_ = 0;
  std::array<float, 16> table_{};
  std::vector<std::int32_t> input_order_;
  AlignedBuffer memory_;              // empty when the bytes are somebody else's
  std::span<const std::byte> bytes_;  // of memory_, or of what keep_ holds
  std::shared_ptr<const void> keep_;
};

/// The CpuWeight behind a PackedWeight; a weight of another backend is a bug of the caller.
const CpuWeight& cpu_weight(const PackedWeight& weight);

}  // namespace bittern::cpu
