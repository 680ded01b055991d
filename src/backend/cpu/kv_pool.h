// CpuKvPool: the paged KV cache as the CPU kernels read it, [block][layer][kv head], each head of a block on its own:
//   keys    groups of 16 tokens, tokens in lanes, in the steps of kernels/tiles.h (so scores need no sum across lanes)
//   values  one row per token, head_dim padded to 16
//   int8 and int4 only: four rows of f32, one value per token: K scale, K zero, V scale, V zero
// It stores and reads single tokens; attention over it is attention.h.
#pragma once

#include "backend/backend.h"
#include "backend/cpu/kernels/kernels.h"
#include "base/buffer.h"

namespace bittern::cpu {

/// Layout of one head of one block.
KvGeometry kv_geometry(const KvSpec& spec);
/// Bytes of one block over all layers and heads.
Index kv_block_stride(const KvSpec& spec);

class CpuKvPool final : public KvPool {
 public:
  CpuKvPool(const KvSpec& spec, std::int64_t blocks);

  const KvGeometry& geometry() const { return geometry_; }
  Index block_stride() const { return block_stride_; }
  Index layer_offset(int layer) const { return layer * spec().kv_heads * geometry_.head_bytes; }
  const std::uint8_t* data() const { return reinterpret_cast<const std::uint8_t*>(memory_.data()); }

  /// Stores k and v (head_dim floats each) of one head of the token in slot `slot` of block `block`. Different tokens
  /// may be stored from different threads at once.
  void store(int layer, Index block, Index slot, Index head, const float* k, const float* v);
  /// Reads them back, dequantized.
  void load(int layer, Index block, Index slot, Index head, float* k, float* v) const;

 private:
  std::uint8_t* head_at(int layer, Index block, Index head) const;

  KvGeometry geometry_;
  Index block_stride_;
  AlignedBuffer memory_;
};

CpuKvPool& cpu_kv_pool(KvPool& pool);
const CpuKvPool& cpu_kv_pool(const KvPool& pool);

}  // namespace bittern::cpu
