// Packing and unpacking of compressed-tensors linears: one reader per kind and what they share.
#include "tensor/compressed_tensors.h"

#include <bittern/error.h>

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "tensor/bit_stream.h"
#include "tensor/convert.h"
#include "tensor/grouped_parts.h"

namespace bittern {
namespace {

[[noreturn]] void refuse(const std::string& message) { throw Error(ErrorCode::invalid_checkpoint, message); }

/// Codes of some bits in words: densely, or floor(32 / bits) to a word.
struct Packing {
  int bits = 4;
  bool dense = true;

  std::int64_t per_word() const { return 32 / bits; }
  std::uint32_t read(const std::uint32_t* words, std::int64_t stride, std::int64_t i) const {
    if (dense) return read_field(words, stride, i, bits);
    return (words[i / per_word() * stride] >> (i % per_word() * bits)) & ((1U << bits) - 1U);
  }
};

/// How `count` codes lie in `words` words.
Packing packing_of(const std::string& part, std::int64_t words, std::int64_t count, int bits) {
  const std::int64_t dense = stream_words(count, bits), padded = (count + 32 / bits - 1) / (32 / bits);
  if (words != dense && words != padded) {
    refuse(part + ": " + std::to_string(count) + " codes of " + std::to_string(bits) + " bits take " +
           std::to_string(dense) + " words, found " + std::to_string(words));
  }
  if (dense == padded && dense > 1 && 32 % bits != 0) {
    throw Error(ErrorCode::unsupported, part + ": " + std::to_string(count) + " codes of " + std::to_string(bits) +
                                            " bits take " + std::to_string(words) +
                                            " words in both ways of packing, so they cannot be told apart");
  }
  return {bits, words == dense};
}

std::int64_t read_dimension(const Tensor& shape, std::int64_t i) {
  return shape.dtype == DType::i64 ? shape.as<const std::int64_t>()[i] : shape.as<const std::int32_t>()[i];
}

/// Inputs, from weight_shape, which must agree with the packed codes.
std::int64_t packed_inputs(const std::string& name, const CompressedTensors& t) {
  check_part(name + ".weight_packed", t.weight, t.weight.rows(), t.weight.cols(),
             t.weight.dtype == DType::i32 && t.weight.size() > 0, "i32");
  check_part(name + ".weight_shape", t.shape, 2, 1, t.shape.dtype == DType::i64 || t.shape.dtype == DType::i32,
             "i64 or i32");
  const std::int64_t out = read_dimension(t.shape, 0), in = read_dimension(t.shape, 1);
  if (out != t.weight.rows() || in <= 0 || in > t.weight.cols() * 32) {
    refuse(name + ".weight_shape: says [" + std::to_string(out) + ", " + std::to_string(in) +
           "], but weight_packed is " + t.weight.describe());
  }
  return in;
}

Weight allocate_integers(const std::string& name, const CompressedLayout& layout, std::int64_t out, std::int64_t in) {
  Format format = Format::grouped(layout.bits, layout.tiles.group_size(in));
  format.int8_activations = layout.int8_activations;
  return Weight::allocate(name, format, out, in);
}

void fill_group_scales(const CompressedTensors& t, const CompressedLayout& layout, Weight& weight) {
  const std::string part = weight.name + ".weight_scale";
  check_part(part, t.scale, layout.tiles.stored_rows(weight.out), layout.tiles.stored_cols(weight.in),
             is_float(t.scale.dtype), "bf16, f16 or f32");
  fill_tiled_scales(part, t.scale, layout.tiles.rows, weight);
}

void fill_packed_zeros(const std::string& part, const Tensor& stored, Weight& weight) {
  const Packing packing = packing_of(part, stored.rows(), weight.out, weight.format.bits);
  check_part(part, stored, stored.rows(), weight.groups(), true, "i32");
  const std::uint32_t* words = stored.as<const std::uint32_t>();
  for (std::int64_t n = 0; n < weight.out; ++n) {
    for (std::int64_t g = 0; g < weight.groups(); ++g) {
      weight.zeros.row<std::uint8_t>(n)[g] = static_cast<std::uint8_t>(packing.read(words + g, stored.cols(), n));
    }
  }
}

/// The unsigned code of a signed one.
std::uint8_t shifted(const std::string& part, int value, int bits) {
  const int half = 1 << (bits - 1);
  if (value < -half || value >= half) {
    refuse(part + ": holds " + std::to_string(value) + ", which is not of " + std::to_string(bits) + " bits");
  }
  return static_cast<std::uint8_t>(value + half);
}

void fill_int8_zeros(const std::string& part, const Tensor& stored, const ScaleTiles& tiles, Weight& weight) {
  check_part(part, stored, tiles.stored_rows(weight.out), tiles.stored_cols(weight.in), stored.dtype == DType::i8,
             "i8 or packed i32");
  for (std::int64_t n = 0; n < weight.out; ++n) {
    const std::int8_t* row = stored.row<const std::int8_t>(tiles.rows == 0 ? 0 : n / tiles.rows);
    for (std::int64_t g = 0; g < weight.groups(); ++g) {
      weight.zeros.row<std::uint8_t>(n)[g] = shifted(part, row[g], weight.format.bits);
    }
  }
}

void fill_group_zeros(const CompressedTensors& t, const CompressedLayout& layout, Weight& weight) {
  const std::string part = weight.name + ".weight_zero_point";
  if (layout.symmetric) return fill_zeros(weight, static_cast<std::uint8_t>(1 << (layout.bits - 1)));
  if (t.zero_point.dtype == DType::i32) return fill_packed_zeros(part, t.zero_point, weight);
  fill_int8_zeros(part, t.zero_point, layout.tiles, weight);
}

/// Packages that still knew it wrote -1 everywhere where groups are runs of inputs.
bool is_unset(const Tensor& g_idx) {
  const std::int32_t* groups = g_idx.as<const std::int32_t>();
  return g_idx.dtype == DType::i32 && std::all_of(groups, groups + g_idx.size(), [](auto g) { return g == -1; });
}

Weight unpack_packed(const std::string& name, const CompressedTensors& t, const CompressedLayout& layout) {
  const std::int64_t in = packed_inputs(name, t);
  const Packing packing = packing_of(name + ".weight_packed", t.weight.cols(), in, layout.bits);
  Weight weight = allocate_integers(name, layout, t.weight.rows(), in);
  if (t.g_idx.rank != 0 && !is_unset(t.g_idx)) apply_group_index(name + ".weight_g_idx", t.g_idx, weight);
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(in));
  for (std::int64_t n = 0; n < weight.out; ++n) {
    const std::uint32_t* words = t.weight.row<const std::uint32_t>(n);
    for (std::int64_t k = 0; k < in; ++k) {
      codes[static_cast<std::size_t>(k)] = static_cast<std::uint8_t>(packing.read(words, 1, k));
    }
    store_codes(weight, n, codes);
  }
  fill_group_scales(t, layout, weight);
  fill_group_zeros(t, layout, weight);
  return weight;
}

Weight unpack_int8(const std::string& name, const CompressedTensors& t, const CompressedLayout& layout) {
  const std::string part = name + ".weight";
  check_part(part, t.weight, t.weight.rows(), t.weight.cols(), t.weight.dtype == DType::i8 && t.weight.size() > 0,
             "i8");
  Weight weight = allocate_integers(name, layout, t.weight.rows(), t.weight.cols());
  for (std::int64_t n = 0; n < weight.out; ++n) {
    const std::int8_t* values = t.weight.row<const std::int8_t>(n);
    for (std::int64_t k = 0; k < weight.in; ++k) weight.set_code(n, k, shifted(part, values[k], layout.bits));
  }
  fill_group_scales(t, layout, weight);
  fill_group_zeros(t, layout, weight);
  return weight;
}

Weight unpack_mxfp4(const std::string& name, const CompressedTensors& t) {
  constexpr std::int64_t kGroup = 32;
  constexpr int kBias = 127, kNan = 255;  // of E8M0, OCP Microscaling Formats (MX) specification 1.0
  const std::string part = name + ".weight_scale";
  check_part(name + ".weight_packed", t.weight, t.weight.rows(), t.weight.cols(),
             t.weight.dtype == DType::u8 && t.weight.size() > 0, "u8");
  Weight weight = Weight::allocate(name, Format::grouped(4, kGroup, Codes::e2m1), t.weight.rows(), 2 * t.weight.cols());
  check_part(part, t.scale, weight.out, weight.groups(), t.scale.dtype == DType::u8, "u8");
  std::copy_n(t.weight.as<const std::uint8_t>(), t.weight.size(), weight.data.as<std::uint8_t>());
  for (std::int64_t n = 0; n < weight.out; ++n) {
    for (std::int64_t g = 0; g < weight.groups(); ++g) {
      const int exponent = t.scale.row<const std::uint8_t>(n)[g];
      weight.scales.row<float>(n)[g] =
          checked_scale(part, exponent == kNan ? NAN : std::ldexp(1.0F, exponent - kBias), n, g);
    }
  }
  return weight;
}

void check_can_pack(const Weight& weight) {
  BITTERN_CHECK(weight.format.kind == FormatKind::grouped && weight.format.codes == Codes::integer &&
                weight.zeros.rank != 0);
  std::string reason = compressed_refusal(weight.in, weight.format.group_size);
  if (weight.input_order.rank != 0) reason = "its groups are not runs of inputs";
  if (reason.empty()) return;
  throw Error(ErrorCode::unsupported, weight.name + ": compressed-tensors cannot hold it: " + reason);
}

void write_shape(const Weight& weight, CompressedTensors& tensors) {
  tensors.shape = owned_tensor(tensors.keep, DType::i64, 2, 1);
  tensors.shape.as<std::int64_t>()[0] = weight.out;
  tensors.shape.as<std::int64_t>()[1] = weight.in;
}

void write_packed_zeros(const Weight& weight, CompressedTensors& tensors) {
  const std::int64_t groups = weight.groups();
  tensors.zero_point = owned_tensor(tensors.keep, DType::i32, stream_words(weight.out, weight.format.bits), groups);
  std::uint32_t* words = tensors.zero_point.as<std::uint32_t>();
  for (std::int64_t n = 0; n < weight.out; ++n) {
    for (std::int64_t g = 0; g < groups; ++g) {
      write_field(words + g, groups, n, weight.format.bits, weight.zeros.row<std::uint8_t>(n)[g]);
    }
  }
}

}  // namespace

Weight unpack_compressed(const std::string& name, const CompressedTensors& tensors, const CompressedLayout& layout) {
  switch (layout.kind) {
    case CompressedKind::packed: return unpack_packed(name, tensors, layout);
    case CompressedKind::int8: return unpack_int8(name, tensors, layout);
    case CompressedKind::e4m3:
      return unpack_fp8(name, tensors.weight, name + ".weight_scale", tensors.scale, layout.tiles, tensors.keep);
    case CompressedKind::mxfp4: return unpack_mxfp4(name, tensors);
  }
  BITTERN_CHECK(false, "CompressedKind {}", static_cast<int>(layout.kind));
}

std::string compressed_refusal(std::int64_t in, std::int64_t group_size) {
  if (group_size <= 0) return "the group size " + std::to_string(group_size) + " is not positive";
  if (in % group_size == 0) return {};
  return "its " + std::to_string(in) + " inputs are not a multiple of the group size " + std::to_string(group_size);
}

CompressedTensors pack_compressed(const Weight& weight, bool symmetric, DType scale_dtype) {
  check_can_pack(weight);
  BITTERN_CHECK(!symmetric || has_symmetric_zeros(weight), "{}", weight.name);
  const int bits = weight.format.bits;
  CompressedTensors tensors;
  tensors.weight = owned_tensor(tensors.keep, DType::i32, weight.out, stream_words(weight.in, bits));
  for (std::int64_t n = 0; n < weight.out; ++n) {
    std::uint32_t* words = tensors.weight.row<std::uint32_t>(n);
    for (std::int64_t k = 0; k < weight.in; ++k) write_field(words, 1, k, bits, weight.code(n, k));
  }
  tensors.scale = owned_tensor(tensors.keep, scale_dtype, weight.out, weight.groups());
  write_scales(weight, false, tensors.scale);
  write_shape(weight, tensors);
  if (!symmetric) write_packed_zeros(weight, tensors);
  return tensors;
}

CompressedTensors pack_int_quantized(const Weight& weight, DType scale_dtype) {
  check_can_pack(weight);
  BITTERN_CHECK(weight.format.bits == 8 && weight.groups() == 1 && has_symmetric_zeros(weight), "{}", weight.name);
  CompressedTensors tensors;
  tensors.weight = owned_tensor(tensors.keep, DType::i8, weight.out, weight.in);
  for (std::int64_t n = 0; n < weight.out; ++n) {
    std::int8_t* values = tensors.weight.row<std::int8_t>(n);
    for (std::int64_t k = 0; k < weight.in; ++k) values[k] = static_cast<std::int8_t>(weight.code(n, k) - 128);
  }
  tensors.scale = owned_tensor(tensors.keep, scale_dtype, weight.out, 1);
  write_scales(weight, false, tensors.scale);
  return tensors;
}

}  // namespace bittern
