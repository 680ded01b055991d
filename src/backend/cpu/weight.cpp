// Packing of weights into tiles, and the gathering of single rows back out of them.
#include "backend/cpu/weight.h"

#include <bittern/error.h>

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/half.h"
#include "tensor/convert.h"

namespace bittern::cpu {
namespace {

Index round_up(Index value, Index multiple) { return (value + multiple - 1) / multiple * multiple; }

TileKind kind_of(const Weight& weight) {
  if (weight.format.kind == FormatKind::grouped) return TileKind::w4;
  switch (weight.format.dtype) {
    case DType::f32: return TileKind::f32;
    case DType::f16: return TileKind::f16;
    case DType::bf16: return TileKind::bf16;
    default:
      throw Error(ErrorCode::unsupported, "weight '" + weight.name + "' is stored as " + weight.format.name(),
                  "a linear needs f32, f16, bf16 or groups of codes");
  }
}

bool fits_w4_tiles(const Weight& weight) {
  const Format& format = weight.format;
  if (format.bits > 4 || format.codes != Codes::integer || weight.zeros.rank == 0) return false;
  return weight.input_order.rank == 0 && (format.group_size % 8 == 0 || weight.groups() == 1);
}

bool all_scales_fit_f16(const Weight& weight) {
  for (Index row = 0; row < weight.out; ++row) {
    const float* scales = weight.scales.row<float>(row);
    if (!std::all_of(scales, scales + weight.groups(), [](float s) { return to_f32(to_f16(s)) == s; })) return false;
  }
  return true;
}

/// Where, in a dense tile, input k of lane `lane` lies, counted in elements.
Index dense_offset(TileKind kind, Index k, Index lane) {
  if (kind == TileKind::bf16) return (k / 2) * 32 + lane * 2 + k % 2;
  return k * kTileOutputs + lane;
}

template <class T>
void scatter_row(const T* row, Index in, TileKind kind, Index lane, T* tile) {
  for (Index k = 0; k < in; ++k) tile[dense_offset(kind, k, lane)] = row[k];
}

/// Eight nibbles from input k of a row of packed int4, as q - 8 in two's complement; zeros past `in`.
std::uint32_t nibbles_at(const std::uint8_t* row, Index k, Index in) {
  std::uint32_t word = 0;
  std::memcpy(&word, row + k / 2, static_cast<std::size_t>(std::min<Index>(4, (in - k + 1) / 2)));
  word ^= 0x88888888u;
  return in - k >= 8 ? word : word & ((1u << (4 * (in - k))) - 1u);
}

}  // namespace

CpuWeight::CpuWeight(const Weight& weight, bool tiled)
    : PackedWeight(weight.format, weight.out, weight.in), tiled_(tiled), kind_(kind_of(weight)) {}

std::unique_ptr<CpuWeight> CpuWeight::tiles(const Weight& weight, ThreadPool& pool) {
  std::unique_ptr<CpuWeight> packed(new CpuWeight(weight, true));
  Weight decoded;
  const bool decode = packed->kind_ == TileKind::w4 && !fits_w4_tiles(weight);
  if (decode) {
    decoded = to_f32(weight);
    packed->kind_ = TileKind::f32;
  }
  const Weight& source = decode ? decoded : weight;
  packed->plan_tiles(source);
  pool.parallel_ranges(packed->tile_count(), 1, [&](Index begin, Index end, int) {
    for (Index tile = begin; tile < end; ++tile) packed->pack_tile(source, tile);
  });
  return packed;
}

std::unique_ptr<CpuWeight> CpuWeight::rows(const Weight& weight, ThreadPool& pool) {
  if (weight.format.kind != FormatKind::dense) return tiles(weight, pool);
  std::unique_ptr<CpuWeight> packed(new CpuWeight(weight, false));
  const std::size_t size = dtype_size(weight.format.dtype), row_bytes = static_cast<std::size_t>(weight.in) * size;
  packed->memory_ = AlignedBuffer(row_bytes * static_cast<std::size_t>(weight.out), AlignedBuffer::Pages::huge);
  pool.parallel_ranges(weight.out, 64, [&](Index begin, Index end, int) {
    for (Index row = begin; row < end; ++row) {
      std::memcpy(packed->memory_.data() + static_cast<std::size_t>(row) * row_bytes,
                  weight.data.as<std::byte>() + static_cast<std::size_t>(row * weight.data.stride[0]) * size,
                  row_bytes);
    }
  });
  return packed;
}

Index CpuWeight::step_inputs() const {
  switch (kind_) {
    case TileKind::f32: return 1;
    case TileKind::bf16:
    case TileKind::f16: return 2;
    case TileKind::w4: return 8;
  }
  BITTERN_CHECK(false, "TileKind {}", static_cast<int>(kind_));
}

void CpuWeight::plan_tiles(const Weight& weight) {
  if (kind_ == TileKind::w4) {
    group_ = std::min(weight.format.group_size, round_up(in(), 8));
    groups_ = weight.groups();
    scales_f16_ = all_scales_fit_f16(weight);
    const Index header = scales_f16_ ? kW4HeaderF16 : kW4HeaderF32;
    tile_bytes_ = groups_ * header + (in() + 7) / 8 * kStepBytes;
  } else {
    tile_bytes_ = (in() + step_inputs() - 1) / step_inputs() * kStepBytes;
  }
  memory_ = AlignedBuffer(static_cast<std::size_t>(tile_count() * tile_bytes_), AlignedBuffer::Pages::huge);
}

void CpuWeight::pack_tile(const Weight& weight, Index tile) {
  if (kind_ == TileKind::w4) {
    pack_w4_tile(weight, tile);
  } else {
    pack_dense_tile(weight, tile);
  }
}

void CpuWeight::pack_dense_tile(const Weight& weight, Index tile) {
  std::byte* target = memory_.data() + tile * tile_bytes_;
  const Index first = tile * kTileOutputs, lanes = std::min<Index>(kTileOutputs, out() - first);
  for (Index lane = 0; lane < lanes; ++lane) {
    if (kind_ == TileKind::f32) {
      scatter_row(weight.data.row<float>(first + lane), in(), kind_, lane, reinterpret_cast<float*>(target));
    } else {
      scatter_row(weight.data.row<std::uint16_t>(first + lane), in(), kind_, lane,
                  reinterpret_cast<std::uint16_t*>(target));
    }
  }
}

void CpuWeight::pack_w4_header(const Weight& weight, Index tile, Index g, std::uint8_t* header) {
  const Index first = tile * kTileOutputs, lanes = std::min<Index>(kTileOutputs, out() - first);
  std::uint8_t* zeros = header + (scales_f16_ ? 32 : 64);
  for (Index lane = 0; lane < lanes; ++lane) {
    const float scale = weight.scales.row<float>(first + lane)[g];
    if (scales_f16_) {
      reinterpret_cast<std::uint16_t*>(header)[lane] = to_f16(scale).bits;
    } else {
      reinterpret_cast<float*>(header)[lane] = scale;
    }
    zeros[lane] = weight.zeros.row<std::uint8_t>(first + lane)[g];
  }
}

void CpuWeight::pack_w4_tile(const Weight& weight, Index tile) {
  std::uint8_t* to = reinterpret_cast<std::uint8_t*>(memory_.data()) + tile * tile_bytes_;
  const Index first = tile * kTileOutputs, lanes = std::min<Index>(kTileOutputs, out() - first);
  for (Index g = 0; g < groups_; ++g) {
    pack_w4_header(weight, tile, g, to);
    to += scales_f16_ ? kW4HeaderF16 : kW4HeaderF32;
    const Index end = std::min(in(), (g + 1) * group_);
    for (Index k = g * group_; k < end; k += 8, to += kStepBytes) {
      for (Index lane = 0; lane < lanes; ++lane) {
        const std::uint32_t word = nibbles_at(weight.data.row<std::uint8_t>(first + lane), k, end);
        std::memcpy(to + 4 * lane, &word, 4);
      }
    }
  }
}

void CpuWeight::decode_row(Index row, float* out) const {
  BITTERN_CHECK(row >= 0 && row < this->out(), "row {} of {}", row, this->out());
  if (tiled_) return kind_ == TileKind::w4 ? decode_w4_row(row, out) : decode_tile_row(row, out);
  const std::size_t row_bytes = static_cast<std::size_t>(in()) * dtype_size(format().dtype);
  convert_to_f32(memory_.data() + static_cast<std::size_t>(row) * row_bytes, format().dtype, in(), out);
}

void CpuWeight::decode_tile_row(Index row, float* out) const {
  const std::byte* tile = memory_.data() + row / kTileOutputs * tile_bytes_;
  const Index lane = row % kTileOutputs;
  for (Index k = 0; k < in(); ++k) {
    const Index at = dense_offset(kind_, k, lane);
    switch (kind_) {
      case TileKind::f32: out[k] = reinterpret_cast<const float*>(tile)[at]; break;
      case TileKind::bf16: out[k] = to_f32(BF16{reinterpret_cast<const std::uint16_t*>(tile)[at]}); break;
      default: out[k] = to_f32(F16{reinterpret_cast<const std::uint16_t*>(tile)[at]}); break;
    }
  }
}

void CpuWeight::decode_w4_row(Index row, float* out) const {
  const std::uint8_t* from = data() + row / kTileOutputs * tile_bytes_;
  const Index lane = row % kTileOutputs;
  for (Index g = 0; g < groups_; ++g) {
    const float scale = scales_f16_ ? to_f32(F16{reinterpret_cast<const std::uint16_t*>(from)[lane]})
                                    : reinterpret_cast<const float*>(from)[lane];
    const int zero = from[(scales_f16_ ? 32 : 64) + lane];
    from += scales_f16_ ? kW4HeaderF16 : kW4HeaderF32;
    const Index end = std::min(in(), (g + 1) * group_);
    for (Index k = g * group_; k < end; ++k) {
      std::uint32_t word;
      std::memcpy(&word, from + (k - g * group_) / 8 * kStepBytes + 4 * lane, 4);
      const int code = static_cast<int>(((word >> (4 * (k % 8))) & 15u) ^ 8u);
      out[k] = static_cast<float>(code - zero) * scale;
    }
    from += (end - g * group_ + 7) / 8 * kStepBytes;
  }
}

const CpuWeight& cpu_weight(const PackedWeight& weight) {
  const CpuWeight* packed = dynamic_cast<const CpuWeight*>(&weight);
  BITTERN_CHECK(packed != nullptr, "a weight that another backend prepared");
  return *packed;
}

}  // namespace bittern::cpu
