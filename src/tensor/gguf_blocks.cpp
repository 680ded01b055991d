// One function per block type takes a block apart into codes, scales and zeros or offsets; the rest is one loop. The
// order of the float operations is the reference's, so that results agree bit for bit.
#include "tensor/gguf_blocks.h"

#include <bittern/error.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <optional>

#include "base/check.h"
#include "base/half.h"

namespace bittern {
namespace {

constexpr std::int64_t kSuper = 256;  // values of a K block

constexpr std::array kTypes = {
    GgufTypeInfo{0, "F32", 1, 4},       GgufTypeInfo{1, "F16", 1, 2},       GgufTypeInfo{2, "Q4_0", 32, 18},
    GgufTypeInfo{3, "Q4_1", 32, 20},    GgufTypeInfo{6, "Q5_0", 32, 22},    GgufTypeInfo{7, "Q5_1", 32, 24},
    GgufTypeInfo{8, "Q8_0", 32, 34},    GgufTypeInfo{9, "Q8_1", 0, 0},      GgufTypeInfo{10, "Q2_K", 0, 0},
    GgufTypeInfo{11, "Q3_K", 0, 0},     GgufTypeInfo{12, "Q4_K", 256, 144}, GgufTypeInfo{13, "Q5_K", 256, 176},
    GgufTypeInfo{14, "Q6_K", 256, 210}, GgufTypeInfo{15, "Q8_K", 0, 0},     GgufTypeInfo{16, "IQ2_XXS", 0, 0},
    GgufTypeInfo{17, "IQ2_XS", 0, 0},   GgufTypeInfo{18, "IQ3_XXS", 0, 0},  GgufTypeInfo{19, "IQ1_S", 0, 0},
    GgufTypeInfo{20, "IQ4_NL", 32, 18}, GgufTypeInfo{21, "IQ3_S", 0, 0},    GgufTypeInfo{22, "IQ2_S", 0, 0},
    GgufTypeInfo{23, "IQ4_XS", 0, 0},   GgufTypeInfo{24, "I8", 0, 0},       GgufTypeInfo{25, "I16", 0, 0},
    GgufTypeInfo{26, "I32", 0, 0},      GgufTypeInfo{27, "I64", 0, 0},      GgufTypeInfo{28, "F64", 0, 0},
    GgufTypeInfo{29, "IQ1_M", 0, 0},    GgufTypeInfo{30, "BF16", 1, 2},     GgufTypeInfo{34, "TQ1_0", 0, 0},
    GgufTypeInfo{35, "TQ2_0", 0, 0},    GgufTypeInfo{39, "MXFP4", 32, 17},  GgufTypeInfo{40, "NVFP4", 0, 0},
    GgufTypeInfo{41, "Q1_0", 0, 0},
};

const GgufTypeInfo& info_of(GgufType type) {
  const GgufTypeInfo* info = gguf_type_info(static_cast<std::uint32_t>(type));
  BITTERN_CHECK(info && info->block_bytes > 0, "GGUF type {}", static_cast<std::uint32_t>(type));
  return *info;
}

// A block taken apart. Which of zeros and offsets is filled is the type's business.
struct Block {
  std::array<std::uint8_t, kSuper> codes;
  std::array<float, 16> scales;
  std::array<float, 16> offsets;
};

float half_at(const std::uint8_t* at) {
  std::uint16_t bits;
  std::memcpy(&bits, at, sizeof(bits));
  return to_f32(F16{bits});
}

// Low nibbles are the first 16 values, high nibbles the last 16.
void nibbles(const std::uint8_t* packed, std::uint8_t* codes) {
  for (int j = 0; j < 16; ++j) {
    codes[j] = packed[j] & 15U;
    codes[j + 16] = packed[j] >> 4U;
  }
}

// Adds the fifth bit of each of 32 codes.
void fifth_bits(const std::uint8_t* packed, std::uint8_t* codes) {
  std::uint32_t bits;
  std::memcpy(&bits, packed, sizeof(bits));
  for (int j = 0; j < 32; ++j) codes[j] = static_cast<std::uint8_t>(codes[j] | ((bits >> j) & 1U) << 4U);
}

void unpack_q4_0(const std::uint8_t* b, Block& out) {
  out.scales[0] = half_at(b);
  nibbles(b + 2, out.codes.data());
}

void unpack_q4_1(const std::uint8_t* b, Block& out) {
  out.scales[0] = half_at(b);
  out.offsets[0] = half_at(b + 2);
  nibbles(b + 4, out.codes.data());
}

void unpack_q5_0(const std::uint8_t* b, Block& out) {
  out.scales[0] = half_at(b);
  nibbles(b + 6, out.codes.data());
  fifth_bits(b + 2, out.codes.data());
}

void unpack_q5_1(const std::uint8_t* b, Block& out) {
  out.scales[0] = half_at(b);
  out.offsets[0] = half_at(b + 2);
  nibbles(b + 8, out.codes.data());
  fifth_bits(b + 4, out.codes.data());
}

void unpack_q8_0(const std::uint8_t* b, Block& out) {
  out.scales[0] = half_at(b);
  for (int j = 0; j < 32; ++j) out.codes[static_cast<std::size_t>(j)] = static_cast<std::uint8_t>(b[2 + j] ^ 0x80U);
}

void unpack_mxfp4(const std::uint8_t* b, Block& out) {
  out.scales[0] = std::ldexp(1.0F, static_cast<int>(b[0]) - 127);
  nibbles(b + 1, out.codes.data());
}

// The eight 6-bit scales and minima of a Q4_K or Q5_K block, packed into 12 bytes.
void scales_and_offsets(const std::uint8_t* b, Block& out) {
  const float d = half_at(b), dmin = half_at(b + 2);
  const std::uint8_t* q = b + 4;
  for (std::size_t j = 0; j < 8; ++j) {
    const unsigned scale = j < 4 ? q[j] & 63U : (q[j + 4] & 15U) | (q[j - 4] >> 6U) << 4U;
    const unsigned minimum = j < 4 ? q[j + 4] & 63U : (q[j + 4] >> 4U) | (q[j] >> 6U) << 4U;
    out.scales[j] = d * static_cast<float>(scale);
    out.offsets[j] = -(dmin * static_cast<float>(minimum));
  }
}

// Per 64 values 32 bytes: low nibbles are the first 32 values, high nibbles the next 32.
void wide_nibbles(const std::uint8_t* packed, Block& out) {
  for (std::size_t i = 0; i < kSuper; ++i) {
    const std::uint8_t byte = packed[i / 64 * 32 + i % 32];
    out.codes[i] = i % 64 < 32 ? byte & 15U : byte >> 4U;
  }
}

void unpack_q4_k(const std::uint8_t* b, Block& out) {
  scales_and_offsets(b, out);
  wide_nibbles(b + 16, out);
}

void unpack_q5_k(const std::uint8_t* b, Block& out) {
  scales_and_offsets(b, out);
  wide_nibbles(b + 48, out);
  for (std::size_t i = 0; i < kSuper; ++i) {
    const unsigned high = (b[16 + i % 32] >> (i / 32)) & 1U;
    out.codes[i] = static_cast<std::uint8_t>(out.codes[i] | high << 4U);
  }
}

void unpack_q6_k(const std::uint8_t* b, Block& out) {
  const float d = half_at(b + 208);
  for (std::size_t g = 0; g < 16; ++g) out.scales[g] = d * static_cast<float>(static_cast<std::int8_t>(b[192 + g]));
  for (std::size_t i = 0; i < kSuper; ++i) {
    const std::size_t half = i / 128, quarter = i % 128 / 32, l = i % 32;
    const std::uint8_t low = b[half * 64 + quarter % 2 * 32 + l];
    const unsigned high = (b[128 + half * 32 + l] >> (2 * quarter)) & 3U;
    out.codes[i] = static_cast<std::uint8_t>((quarter < 2 ? low & 15U : low >> 4U) | high << 4U);
  }
}

// How a quantized type maps to the canonical form.
struct Layout {
  GgufType type;
  Format format;
  int zero;  // of integer codes; -1: the block has offsets
  void (*unpack)(const std::uint8_t*, Block&);
};

const std::array kLayouts = {
    Layout{GgufType::q4_0, Format::grouped(4, 32), 8, unpack_q4_0},
    Layout{GgufType::q4_1, Format::grouped(4, 32), -1, unpack_q4_1},
    Layout{GgufType::q5_0, Format::grouped(5, 32), 16, unpack_q5_0},
    Layout{GgufType::q5_1, Format::grouped(5, 32), -1, unpack_q5_1},
    Layout{GgufType::q8_0, Format::grouped(8, 32), 128, unpack_q8_0},
    Layout{GgufType::q4_k, Format::grouped(4, 32), -1, unpack_q4_k},
    Layout{GgufType::q5_k, Format::grouped(5, 32), -1, unpack_q5_k},
    Layout{GgufType::q6_k, Format::grouped(6, 16), 32, unpack_q6_k},
    Layout{GgufType::iq4_nl, Format::grouped(4, 32, Codes::iq4_nl), 0, unpack_q4_0},
    Layout{GgufType::mxfp4, Format::grouped(4, 32, Codes::e2m1), 0, unpack_mxfp4},
};

const Layout* layout_of(GgufType type) {
  const auto found = std::find_if(kLayouts.begin(), kLayouts.end(), [&](const auto& row) { return row.type == type; });
  return found == kLayouts.end() ? nullptr : &*found;
}

std::optional<DType> dense_dtype(GgufType type) {
  if (type == GgufType::f32) return DType::f32;
  if (type == GgufType::f16) return DType::f16;
  if (type == GgufType::bf16) return DType::bf16;
  return std::nullopt;
}

Weight dense_weight(std::string name, DType dtype, std::int64_t rows, std::int64_t cols,
                    std::span<const std::byte> bytes) {
  if (reinterpret_cast<std::uintptr_t>(bytes.data()) % dtype_size(dtype) != 0) {
    Weight copy = Weight::allocate(std::move(name), Format::dense(dtype), rows, cols);
    std::memcpy(copy.data.data, bytes.data(), bytes.size());
    return copy;
  }
  Weight weight;
  weight.name = std::move(name);
  weight.format = Format::dense(dtype);
  weight.out = rows;
  weight.in = cols;
  // Tensor has no const form; weights are never written through.
  weight.data = Tensor::of(const_cast<std::byte*>(bytes.data()), dtype, rows, cols);
  return weight;
}

void store(const Block& block, const Layout& layout, std::int64_t values, std::int64_t row, std::int64_t column,
           Weight& weight) {
  std::uint8_t* data = weight.data.row<std::uint8_t>(row);
  if (layout.format.bits > 4) {
    std::memcpy(data + column, block.codes.data(), static_cast<std::size_t>(values));
  } else {
    for (std::int64_t j = 0; j < values; j += 2) {
      const auto i = static_cast<std::size_t>(j);
      data[(column + j) / 2] = static_cast<std::uint8_t>(block.codes[i] | block.codes[i + 1] << 4U);
    }
  }
  const std::int64_t first = column / layout.format.group_size, groups = values / layout.format.group_size;
  std::copy_n(block.scales.data(), groups, weight.scales.row<float>(row) + first);
  if (layout.format.codes != Codes::integer) return;
  if (layout.zero < 0) {
    std::copy_n(block.offsets.data(), groups, weight.offsets.row<float>(row) + first);
  } else {
    std::fill_n(weight.zeros.row<std::uint8_t>(row) + first, groups, static_cast<std::uint8_t>(layout.zero));
  }
}

}  // namespace

const GgufTypeInfo* gguf_type_info(std::uint32_t type) {
  const auto found = std::find_if(kTypes.begin(), kTypes.end(), [&](const auto& row) { return row.type == type; });
  return found == kTypes.end() ? nullptr : &*found;
}

std::string gguf_type_name(std::uint32_t type) {
  const GgufTypeInfo* info = gguf_type_info(type);
  return info ? std::string(info->name) : "type " + std::to_string(type);
}

std::int64_t gguf_bytes(GgufType type, std::int64_t values) {
  const GgufTypeInfo& info = info_of(type);
  BITTERN_CHECK(values % info.block_values == 0, "{} values of {}", values, info.name);
  return values / info.block_values * info.block_bytes;
}

Format gguf_format(GgufType type) {
  const Layout* layout = layout_of(type);
  return layout ? layout->format : Format::dense(dense_dtype(type).value());
}

Weight decode_gguf_blocks(std::string name, GgufType type, std::int64_t rows, std::int64_t cols,
                          std::span<const std::byte> bytes) {
  BITTERN_CHECK(static_cast<std::int64_t>(bytes.size()) == gguf_bytes(type, rows * cols));
  if (const auto dtype = dense_dtype(type)) return dense_weight(std::move(name), *dtype, rows, cols, bytes);
  const Layout& layout = *layout_of(type);
  const GgufTypeInfo& info = info_of(type);
  const auto shift = layout.zero < 0 ? Weight::Shift::offsets : Weight::Shift::zeros;
  Weight weight = Weight::allocate(std::move(name), layout.format, rows, cols, shift);
  const auto* at = reinterpret_cast<const std::uint8_t*>(bytes.data());
  Block block{};
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t column = 0; column < cols; column += info.block_values, at += info.block_bytes) {
      if (type == GgufType::mxfp4 && *at == 0xff) {
        throw Error(ErrorCode::invalid_checkpoint, "tensor '" + weight.name + "' has an MXFP4 block whose scale is NaN",
                    "the file is damaged, or the quantizer that made it failed");
      }
      layout.unpack(at, block);
      store(block, layout, info.block_values, row, column, weight);
    }
  }
  return weight;
}

}  // namespace bittern
