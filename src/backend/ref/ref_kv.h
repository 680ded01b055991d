// The KV pool of the reference backend: one row of bytes per layer, block, K or V, token and head, in the order of that
// sentence. A row is head_dim elements of a float format; scale and zero (f32 each) followed by the codes; or, for
// int8_static, the codes alone.
#pragma once

#include <vector>

#include "backend/backend.h"

namespace bittern {

class RefKvPool final : public KvPool {
 public:
  enum class Part : std::uint8_t { k, v };

  RefKvPool(KvSpec spec, std::int64_t blocks);

  /// Stores `head_dim` floats as the format says: floats rounded to nearest even; int8 and int4 as design.md section 4
  /// defines online quantization: scale = (max-min)/(2^b-1), zero = min, q = round((x-zero)/scale); int8_static
  /// by kv_static_code.
  void store(int layer, std::int64_t block, Part part, std::int64_t token, std::int64_t head, const float* values);
  /// Reads them back, dequantized.
  void load(int layer, std::int64_t block, Part part, std::int64_t token, std::int64_t head, float* values) const;

  /// Bytes of one row.
  static std::int64_t row_bytes(const KvSpec& spec);
  static const RefKvPool& of(const KvPool& pool) { return dynamic_cast<const RefKvPool&>(pool); }
  static RefKvPool& of(KvPool& pool) { return dynamic_cast<RefKvPool&>(pool); }

 private:
  std::size_t offset(int layer, std::int64_t block, Part part, std::int64_t token, std::int64_t head) const;

  std::vector<std::byte> bytes_;
};

/// Block of the pool that holds position `position` of sequence `sequence`.
std::int32_t block_at(const BatchView& batch, const KvSpec& spec, int sequence, std::int64_t position);

}  // namespace bittern
