// CpuKvPool: the paged KV cache as the CPU kernels read it, [block][layer][kv head], each head of a block on its own:
//   keys    groups of 16 tokens, tokens in lanes, in the steps of kernels/tiles.h (so scores need no sum across lanes)
//   values  one row per token, head_dim padded to 16
//   int8 and int4 only: four rows of f32, one value per token: K scale, K zero, V scale, V zero
// int8_static keeps its scales and zeros once for the pool, and a zero term that suits codes stored as q + 128.
// It stores and reads single tokens; attention over it is attention.h.
#pragma once

#include <vector>

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
  /// int8_static: K and V of a channel are code * scale + shift, code being what is stored (q + 128).
  struct StaticHead {
    const float *k_scale, *k_shift, *v_scale, *v_shift;  // (head_dim) each
  };
  bool is_static() const { return geometry_.kind == KvKind::int8_static; }
  StaticHead static_head(int layer, Index head) const;
  /// Reads them back, dequantized.
  void load(int layer, Index block, Index slot, Index head, float* k, float* v) const;

 private:
  void store_static(int layer, Index head, const float* k, const float* v, std::uint8_t* group, Index lane,
                    std::uint8_t* row) const;
  std::uint8_t* head_at(int layer, Index block, Index head) const;

  KvGeometry geometry_;
  Index block_stride_;
  AlignedBuffer memory_;
  std::vector<float> k_shift_, v_shift_;  // int8_static: zero - 128 * scale
};

CpuKvPool& cpu_kv_pool(KvPool& pool);
const CpuKvPool& cpu_kv_pool(const KvPool& pool);

}  // namespace bittern::cpu
