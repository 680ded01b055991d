// Layout of the KV cache, and the encoding and decoding of one token's key and value in every format.
#include "backend/cpu/kv_pool.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/check.h"
#include "base/half.h"

namespace bittern::cpu {
namespace {

Index round_up(Index value, Index multiple) { return (value + multiple - 1) / multiple * multiple; }

KvKind kind_of(KvFormat format) {
  switch (format) {
    case KvFormat::f32: return KvKind::f32;
    case KvFormat::f16: return KvKind::f16;
    case KvFormat::bf16: return KvKind::bf16;
    case KvFormat::int8: return KvKind::int8;
    case KvFormat::int4: return KvKind::int4;
    case KvFormat::int8_static: return KvKind::int8_static;
  }
  BITTERN_CHECK(false, "KvFormat {}", static_cast<int>(format));
}

/// Carries parameters per token.
bool quantized(KvKind kind) { return kind == KvKind::int8 || kind == KvKind::int4; }
bool byte_codes(KvKind kind) { return kind == KvKind::int8 || kind == KvKind::int8_static; }
int levels_of(KvKind kind) { return kind == KvKind::int8 ? 255 : 15; }

/// Dimensions of K in one 64-byte step of sixteen tokens.
Index step_dims(KvKind kind) {
  switch (kind) {
    case KvKind::f32: return 1;
    case KvKind::f16:
    case KvKind::bf16: return 2;
    case KvKind::int8:
    case KvKind::int8_static: return 4;
    case KvKind::int4: return 8;
  }
  BITTERN_CHECK(false, "KvKind {}", static_cast<int>(kind));
}

/// Codes of one head: q = round((x - zero) / scale), as design.md section 4 defines online quantization.
struct Codes {
  float scale, zero;
};

// A row with an infinity or a NaN reads back as NaN throughout: no scale could hold it.
Codes encode(const float* x, Index n, int levels, std::uint8_t* codes) {
  float low = x[0], high = x[0];
  bool finite = true;
  for (Index i = 0; i < n; ++i) {
    low = std::min(low, x[i]);
    high = std::max(high, x[i]);
    finite = finite && std::isfinite(x[i]);
  }
  const Codes c = finite ? Codes{(high - low) / static_cast<float>(levels), low}
                         : Codes{std::numeric_limits<float>::quiet_NaN(), 0};
  for (Index i = 0; i < n; ++i) {
    // Adding 2^52 rounds to nearest even; a scale of zero (or NaN) fails the comparison and gives code 0. In double,
    // because a float quotient may land on the wrong side of a tie.
    const double code = c.scale > 0 ? ((double{x[i]} - c.zero) / c.scale + 0x1p52) - 0x1p52 : 0.0;
    codes[i] = static_cast<std::uint8_t>(std::min(code, static_cast<double>(levels)));
  }
  return c;
}

constexpr Index kMaxDim = 1024;
constexpr int kCodeShift = 128;  // int8_static is stored unsigned

std::vector<float> shifts(const std::vector<float>& scales, const std::vector<float>& zeros) {
  std::vector<float> result(scales.size());
  for (std::size_t i = 0; i < scales.size(); ++i) {
    result[i] = static_cast<float>(double{zeros[i]} - double{scales[i]} * kCodeShift);
  }
  return result;
}

void encode_static(const float* x, const float* scale, const float* zero, Index n, std::uint8_t* codes) {
  for (Index i = 0; i < n; ++i) {
    codes[i] = static_cast<std::uint8_t>(kv_static_code(x[i], scale[i], zero[i]) + kCodeShift);
  }
}

/// Element d of the key in lane `lane` of a group, counted in elements (bytes for int8).
Index key_offset(KvKind kind, Index d, Index lane) {
  return kind == KvKind::bf16 ? d / 2 * 32 + lane * 2 + d % 2 : d * 16 + lane;
}

void store_key(const KvGeometry& g, const float* k, std::uint8_t* group, Index lane) {
  for (Index d = 0; d < g.head_dim; ++d) {
    const Index at = key_offset(g.kind, d, lane);
    switch (g.kind) {
      case KvKind::f32: reinterpret_cast<float*>(group)[at] = k[d]; break;
      case KvKind::f16: reinterpret_cast<std::uint16_t*>(group)[at] = to_f16(k[d]).bits; break;
      default: reinterpret_cast<std::uint16_t*>(group)[at] = to_bf16(k[d]).bits; break;
    }
  }
}

void store_value(const KvGeometry& g, const float* v, std::uint8_t* row) {
  for (Index d = 0; d < g.head_dim; ++d) {
    switch (g.kind) {
      case KvKind::f32: reinterpret_cast<float*>(row)[d] = v[d]; break;
      case KvKind::f16: reinterpret_cast<std::uint16_t*>(row)[d] = to_f16(v[d]).bits; break;
      default: reinterpret_cast<std::uint16_t*>(row)[d] = to_bf16(v[d]).bits; break;
    }
  }
}

void store_key_codes(const KvGeometry& g, const std::uint8_t* codes, std::uint8_t* group, Index lane) {
  if (byte_codes(g.kind)) {
    for (Index d = 0; d < g.head_dim; ++d) group[d * 16 + lane] = codes[d];
    return;
  }
  for (Index d = 0; d < g.head_dim; d += 8) {  // a dword per token: eight dimensions
    std::uint32_t word = 0;
    for (Index i = 0; i < std::min<Index>(8, g.head_dim - d); ++i) word |= std::uint32_t{codes[d + i]} << (4 * i);
    std::memcpy(group + d / 8 * kStepBytes + lane * 4, &word, 4);
  }
}

/// In 8 bytes of sixteen dimensions, dimension l is nibble l/2 of dword l%2: one variable shift spreads them to lanes.
void store_value_codes(const KvGeometry& g, const std::uint8_t* codes, std::uint8_t* row) {
  if (byte_codes(g.kind)) {
    std::memcpy(row, codes, static_cast<std::size_t>(g.head_dim));
    return;
  }
  for (Index d = 0; d < g.head_dim; d += 16) {
    std::uint32_t words[2] = {};
    for (Index l = 0; l < std::min<Index>(16, g.head_dim - d); ++l)
      words[l % 2] |= std::uint32_t{codes[d + l]} << (4 * (l / 2));
    std::memcpy(row + d / 2, words, 8);
  }
}

int key_code(const KvGeometry& g, const std::uint8_t* group, Index d, Index lane) {
  if (byte_codes(g.kind)) return group[d * 16 + lane];
  std::uint32_t word;
  std::memcpy(&word, group + d / 8 * kStepBytes + lane * 4, 4);
  return static_cast<int>((word >> (4 * (d % 8))) & 15u);
}

int value_code(const KvGeometry& g, const std::uint8_t* row, Index d) {
  if (byte_codes(g.kind)) return row[d];
  std::uint32_t words[2];
  std::memcpy(words, row + d / 16 * 8, 8);
  const Index l = d % 16;
  return static_cast<int>((words[l % 2] >> (4 * (l / 2))) & 15u);
}

float element(KvKind kind, const std::uint8_t* base, Index at) {
  switch (kind) {
    case KvKind::f32: return reinterpret_cast<const float*>(base)[at];
    case KvKind::f16: return to_f32(F16{reinterpret_cast<const std::uint16_t*>(base)[at]});
    default: return to_f32(BF16{reinterpret_cast<const std::uint16_t*>(base)[at]});
  }
}

}  // namespace

KvGeometry kv_geometry(const KvSpec& spec) {
  KvGeometry g{};
  g.kind = kind_of(spec.format);
  g.head_dim = spec.head_dim;
  g.padded_dim = round_up(spec.head_dim, 16);
  g.block_tokens = spec.block_tokens;
  g.groups = (g.block_tokens + 15) / 16;
  g.k_group_bytes = (g.head_dim + step_dims(g.kind) - 1) / step_dims(g.kind) * kStepBytes;
  g.v_token_bytes = g.padded_dim * 4 / step_dims(g.kind);
  g.v_offset = g.groups * g.k_group_bytes;
  g.param_offset = round_up(g.v_offset + g.block_tokens * g.v_token_bytes, kStepBytes);
  g.head_bytes = g.param_offset + (quantized(g.kind) ? 4 * g.groups * 16 * static_cast<Index>(sizeof(float)) : 0);
  return g;
}

Index kv_block_stride(const KvSpec& spec) { return kv_geometry(spec).head_bytes * spec.kv_heads * spec.layers; }

CpuKvPool::CpuKvPool(const KvSpec& spec, std::int64_t blocks)
    : KvPool(spec, blocks),
      geometry_(kv_geometry(spec)),
      block_stride_(kv_block_stride(spec)),
      memory_(static_cast<std::size_t>(block_stride_ * blocks), AlignedBuffer::Pages::huge) {
  check_kv_params(spec);
  if (!is_static()) return;
  k_shift_ = shifts(spec.static_params->k_scale, spec.static_params->k_zero);
  v_shift_ = shifts(spec.static_params->v_scale, spec.static_params->v_zero);
}

CpuKvPool::StaticHead CpuKvPool::static_head(int layer, Index head) const {
  const KvStaticParams& p = *spec().static_params;
  const std::size_t at = p.head(layer, head);
  return {p.k_scale.data() + at, k_shift_.data() + at, p.v_scale.data() + at, v_shift_.data() + at};
}

void CpuKvPool::store_static(int layer, Index head, const float* k, const float* v, std::uint8_t* group, Index lane,
                             std::uint8_t* row) const {
  const KvStaticParams& p = *spec().static_params;
  const std::size_t at = p.head(layer, head);
  std::uint8_t codes[kMaxDim];
  encode_static(k, p.k_scale.data() + at, p.k_zero.data() + at, geometry_.head_dim, codes);
  store_key_codes(geometry_, codes, group, lane);
  encode_static(v, p.v_scale.data() + at, p.v_zero.data() + at, geometry_.head_dim, codes);
  store_value_codes(geometry_, codes, row);
}

std::uint8_t* CpuKvPool::head_at(int layer, Index block, Index head) const {
  BITTERN_CHECK(block >= 0 && block < blocks(), "block {} of {}", block, blocks());
  return const_cast<std::uint8_t*>(data()) + block * block_stride_ + layer_offset(layer) + head * geometry_.head_bytes;
}

void CpuKvPool::store(int layer, Index block, Index slot, Index head, const float* k, const float* v) {
  const KvGeometry& g = geometry_;
  std::uint8_t* base = head_at(layer, block, head);
  std::uint8_t* group = base + slot / 16 * g.k_group_bytes;
  std::uint8_t* row = base + g.v_offset + slot * g.v_token_bytes;
  BITTERN_CHECK(g.head_dim <= kMaxDim);
  if (is_static()) return store_static(layer, head, k, v, group, slot % 16, row);
  if (!quantized(g.kind)) {
    store_key(g, k, group, slot % 16);
    store_value(g, v, row);
    return;
  }
  std::uint8_t codes[kMaxDim];
  float* params = reinterpret_cast<float*>(base + g.param_offset) + slot;
  const Index stride = g.groups * 16;
  const Codes key = encode(k, g.head_dim, levels_of(g.kind), codes);
  store_key_codes(g, codes, group, slot % 16);
  const Codes value = encode(v, g.head_dim, levels_of(g.kind), codes);
  store_value_codes(g, codes, row);
  params[0] = key.scale;
  params[stride] = key.zero;
  params[2 * stride] = value.scale;
  params[3 * stride] = value.zero;
}

void CpuKvPool::load(int layer, Index block, Index slot, Index head, float* k, float* v) const {
  const KvGeometry& g = geometry_;
  const std::uint8_t* base = head_at(layer, block, head);
  const std::uint8_t* group = base + slot / 16 * g.k_group_bytes;
  const std::uint8_t* row = base + g.v_offset + slot * g.v_token_bytes;
  const float* params = reinterpret_cast<const float*>(base + g.param_offset) + slot;
  const Index stride = g.groups * 16, lane = slot % 16;
  const std::size_t channel = is_static() ? spec().static_params->head(layer, head) : 0;
  for (Index d = 0; d < g.head_dim; ++d) {
    if (is_static()) {
      const KvStaticParams& p = *spec().static_params;
      const std::size_t c = channel + static_cast<std::size_t>(d);
      k[d] = static_cast<float>(key_code(g, group, d, lane) - kCodeShift) * p.k_scale[c] + p.k_zero[c];
      v[d] = static_cast<float>(value_code(g, row, d) - kCodeShift) * p.v_scale[c] + p.v_zero[c];
    } else if (quantized(g.kind)) {
      k[d] = static_cast<float>(key_code(g, group, d, lane)) * params[0] + params[stride];
      v[d] = static_cast<float>(value_code(g, row, d)) * params[2 * stride] + params[3 * stride];
    } else {
      k[d] = element(g.kind, group, key_offset(g.kind, d, lane));
      v[d] = element(g.kind, row, d);
    }
  }
}

CpuKvPool& cpu_kv_pool(KvPool& pool) {
  CpuKvPool* own = dynamic_cast<CpuKvPool*>(&pool);
  BITTERN_CHECK(own != nullptr, "a KV pool that another backend made");
  return *own;
}

const CpuKvPool& cpu_kv_pool(const KvPool& pool) {
  const CpuKvPool* own = dynamic_cast<const CpuKvPool*>(&pool);
  BITTERN_CHECK(own != nullptr, "a KV pool that another backend made");
  return *own;
}

}  // namespace bittern::cpu
