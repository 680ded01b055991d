// Storing and reading keys and values in every KV format.
#include "backend/ref/ref_kv.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "backend/ref/ref_backend.h"
#include "base/check.h"
#include "tensor/convert.h"

namespace bittern {
namespace {

bool is_quantized(KvFormat format) { return format == KvFormat::int8 || format == KvFormat::int4; }

bool is_static(KvFormat format) { return format == KvFormat::int8_static; }

DType float_dtype(KvFormat format) {
  if (format == KvFormat::f16) return DType::f16;
  return format == KvFormat::bf16 ? DType::bf16 : DType::f32;
}

struct Parameters {
  float scale;
  float zero;
};

Parameters choose_parameters(const float* x, int n, int levels) {
  const auto [low, high] = std::minmax_element(x, x + n);
  if (!std::all_of(x, x + n, [](float value) { return std::isfinite(value); })) {
    return {std::numeric_limits<float>::quiet_NaN(), 0};
  }
  return {(*high - *low) / static_cast<float>(levels), *low};
}

std::uint8_t encode(float x, Parameters p, int levels) {
  if (!(p.scale > 0)) return 0;  // all values equal, or none finite
  const double code = std::nearbyint((static_cast<double>(x) - p.zero) / p.scale);
  return static_cast<std::uint8_t>(std::clamp(code, 0.0, static_cast<double>(levels)));
}

void store_quantized(KvFormat format, const float* x, int n, std::byte* row) {
  const int levels = format == KvFormat::int8 ? 255 : 15;
  const Parameters p = choose_parameters(x, n, levels);
  std::memcpy(row, &p, sizeof p);
  std::uint8_t* codes = reinterpret_cast<std::uint8_t*>(row + sizeof p);
  for (int i = 0; i < n; ++i) {
    const std::uint8_t code = encode(x[i], p, levels);
    if (format == KvFormat::int8) {
      codes[i] = code;
    } else if (i % 2 == 0) {
      codes[i / 2] = code;
    } else {
      codes[i / 2] = static_cast<std::uint8_t>(codes[i / 2] | (code << 4));
    }
  }
}

void load_quantized(KvFormat format, const std::byte* row, int n, float* x) {
  Parameters p;
  std::memcpy(&p, row, sizeof p);
  const std::uint8_t* codes = reinterpret_cast<const std::uint8_t*>(row + sizeof p);
  for (int i = 0; i < n; ++i) {
    const int code = format == KvFormat::int8 ? codes[i] : (codes[i / 2] >> (4 * (i % 2))) & 15;
    x[i] = static_cast<float>(code) * p.scale + p.zero;
  }
}

/// Scales and zeros of one head's channels.
struct StaticHead {
  const float *scale, *zero;
};

StaticHead static_head(const KvStaticParams& p, int layer, RefKvPool::Part part, std::int64_t head) {
  const bool k = part == RefKvPool::Part::k;
  const std::size_t at = p.head(layer, head);
  return {(k ? p.k_scale : p.v_scale).data() + at, (k ? p.k_zero : p.v_zero).data() + at};
}

void store_static(const StaticHead& p, const float* x, int n, std::byte* row) {
  for (int i = 0; i < n; ++i) row[i] = static_cast<std::byte>(kv_static_code(x[i], p.scale[i], p.zero[i]));
}

void load_static(const StaticHead& p, const std::byte* row, int n, float* x) {
  for (int i = 0; i < n; ++i) x[i] = static_cast<float>(static_cast<std::int8_t>(row[i])) * p.scale[i] + p.zero[i];
}

// Rotates the pairs of one head in place by the angles whose cosines and sines are given.
void rotate(float* x, const float* cos, const float* sin, std::int64_t half, bool interleaved) {
  for (std::int64_t i = 0; i < half; ++i) {
    float& a = interleaved ? x[2 * i] : x[i];
    float& b = interleaved ? x[2 * i + 1] : x[i + half];
    const double old_a = a, old_b = b;
    a = static_cast<float>(old_a * cos[i] - old_b * sin[i]);
    b = static_cast<float>(old_b * cos[i] + old_a * sin[i]);
  }
}

void rotate_heads(const Tensor& x, const RopeStoreArgs& args) {
  if (args.cos.rank == 0) return;
  BITTERN_CHECK(args.cos.rows() == x.rows() && args.sin.rows() == x.rows() && 2 * args.cos.cols() <= x.cols());
  for (std::int64_t t = 0; t < x.rows(); ++t) {
    for (std::int64_t h = 0; h < x.shape[1]; ++h) {
      rotate(x.row<float>(t) + h * x.stride[1], args.cos.row<float>(t), args.sin.row<float>(t), args.cos.cols(),
             args.interleaved);
    }
  }
}

void store_token(const RopeStoreArgs& args, std::int64_t token, std::int64_t block, std::int64_t slot,
                 RefKvPool& pool) {
  for (std::int64_t h = 0; h < args.k.shape[1]; ++h) {
    pool.store(args.layer, block, RefKvPool::Part::k, slot, h, args.k.row<float>(token) + h * args.k.stride[1]);
    pool.store(args.layer, block, RefKvPool::Part::v, slot, h, args.v.row<float>(token) + h * args.v.stride[1]);
  }
}

void check_store(const RopeStoreArgs& args, const BatchView& batch, const KvSpec& spec) {
  for (const Tensor& t : {args.q, args.k, args.v}) {
    BITTERN_CHECK(t.dtype == DType::f32 && t.rank == 3 && t.rows() == batch.tokens && t.cols() == spec.head_dim,
                  "{} for {} tokens of head_dim {}", t.describe(), batch.tokens, spec.head_dim);
  }
  BITTERN_CHECK(args.k.shape[1] == spec.kv_heads && args.v.shape[1] == spec.kv_heads);
  BITTERN_CHECK(args.layer >= 0 && args.layer < spec.layers);
}

}  // namespace

RefKvPool::RefKvPool(KvSpec spec, std::int64_t blocks)
    : KvPool(spec, blocks),
      bytes_(static_cast<std::size_t>(blocks * 2 * spec.layers * spec.block_tokens * spec.kv_heads * row_bytes(spec))) {
  check_kv_params(spec);
}

std::int64_t RefKvPool::row_bytes(const KvSpec& spec) {
  const std::int64_t dim = spec.head_dim;
  if (is_static(spec.format)) return dim;
  if (!is_quantized(spec.format)) return dim * static_cast<std::int64_t>(dtype_size(float_dtype(spec.format)));
  return static_cast<std::int64_t>(sizeof(Parameters)) + (spec.format == KvFormat::int8 ? dim : (dim + 1) / 2);
}

std::size_t RefKvPool::offset(int layer, std::int64_t block, Part part, std::int64_t token, std::int64_t head) const {
  const KvSpec& s = spec();
  BITTERN_CHECK(block >= 0 && block < blocks(), "block {} of {}", block, blocks());
  const std::int64_t plane = (layer * blocks() + block) * 2 + (part == Part::v ? 1 : 0);
  return static_cast<std::size_t>(((plane * s.block_tokens + token) * s.kv_heads + head) * row_bytes(s));
}

void RefKvPool::store(int layer, std::int64_t block, Part part, std::int64_t token, std::int64_t head,
                      const float* values) {
  std::byte* row = bytes_.data() + offset(layer, block, part, token, head);
  if (is_static(spec().format)) {
    return store_static(static_head(*spec().static_params, layer, part, head), values, spec().head_dim, row);
  }
  if (is_quantized(spec().format)) return store_quantized(spec().format, values, spec().head_dim, row);
  convert_from_f32(values, float_dtype(spec().format), spec().head_dim, row);
}

void RefKvPool::load(int layer, std::int64_t block, Part part, std::int64_t token, std::int64_t head,
                     float* values) const {
  const std::byte* row = bytes_.data() + offset(layer, block, part, token, head);
  if (is_static(spec().format)) {
    return load_static(static_head(*spec().static_params, layer, part, head), row, spec().head_dim, values);
  }
  if (is_quantized(spec().format)) return load_quantized(spec().format, row, spec().head_dim, values);
  convert_to_f32(row, float_dtype(spec().format), spec().head_dim, values);
}

std::int32_t block_at(const BatchView& batch, const KvSpec& spec, int sequence, std::int64_t position) {
  const std::int64_t index = position / spec.block_tokens;
  BITTERN_CHECK(position >= 0 && index < batch.max_blocks, "position {} of {} blocks", position, batch.max_blocks);
  return batch.block_tables[static_cast<std::size_t>(std::int64_t{sequence} * batch.max_blocks + index)];
}

bool RefBackend::supports(const KvSpec& spec) const {
  return spec.layers > 0 && spec.kv_heads > 0 && spec.head_dim > 0 && spec.block_tokens > 0;
}

std::int64_t RefBackend::kv_block_bytes(const KvSpec& spec) const {
  return std::int64_t{2} * spec.layers * spec.block_tokens * spec.kv_heads * RefKvPool::row_bytes(spec);
}

std::unique_ptr<KvPool> RefBackend::make_kv_pool(const KvSpec& spec, std::int64_t blocks) {
  BITTERN_CHECK(supports(spec) && blocks >= 0);
  return std::make_unique<RefKvPool>(spec, blocks);
}

void RefBackend::rope_store(const RopeStoreArgs& args, const BatchView& batch, KvPool& pool) {
  RefKvPool& target = RefKvPool::of(pool);
  check_store(args, batch, pool.spec());
  rotate_heads(args.q, args);
  rotate_heads(args.k, args);
  for (int s = 0; s < batch.sequences; ++s) {
    for (int t = batch.q_start[static_cast<std::size_t>(s)]; t < batch.q_start[static_cast<std::size_t>(s) + 1]; ++t) {
      const std::int64_t position = batch.positions[static_cast<std::size_t>(t)];
      store_token(args, t, block_at(batch, pool.spec(), s, position), position % pool.spec().block_tokens, target);
    }
  }
}

void RefBackend::read_kv(const KvPool& pool, int layer, std::span<const std::int32_t> blocks, std::int64_t tokens,
                         float* k, float* v) const {
  const RefKvPool& source = RefKvPool::of(pool);
  const KvSpec& spec = pool.spec();
  for (std::int64_t t = 0; t < tokens; ++t) {
    const std::int64_t block = blocks[static_cast<std::size_t>(t / spec.block_tokens)];
    for (std::int64_t h = 0; h < spec.kv_heads; ++h) {
      const std::int64_t at = (t * spec.kv_heads + h) * spec.head_dim;
      source.load(layer, block, RefKvPool::Part::k, t % spec.block_tokens, h, k + at);
      source.load(layer, block, RefKvPool::Part::v, t % spec.block_tokens, h, v + at);
    }
  }
}

}  // namespace bittern
