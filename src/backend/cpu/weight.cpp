// Packing of weights into tiles, and the gathering of single rows back out of them.
#include "backend/cpu/weight.h"

#include <bittern/error.h>

#include <algorithm>
#include <cstring>

#include "backend/cpu/weight_layout.h"
#include "base/check.h"
#include "base/half.h"
#include "tensor/convert.h"

namespace bittern::cpu {
namespace {

Index round_up(Index value, Index multiple) { return (value + multiple - 1) / multiple * multiple; }

bool has_nan_code(const Weight& weight) {
  for (Index row = 0; row < weight.out; ++row) {
    const std::uint8_t* codes = weight.data.row<std::uint8_t>(row);
    if (std::any_of(codes, codes + weight.in, [](std::uint8_t q) { return (q & 0x7f) == 0x7f; })) return true;
  }
  return false;
}

/// The tiles a grouped weight fits, or f32 when it fits none.
TileKind grouped_kind(const Weight& weight) {
  const Format& f = weight.format;
  const auto starts_on = [&](Index step) { return f.group_size % step == 0 || weight.groups() == 1; };
  switch (f.codes) {
    case Codes::e2m1:
    case Codes::iq4_nl: return starts_on(8) ? TileKind::t4 : TileKind::f32;
    case Codes::e4m3: return starts_on(4) && !has_nan_code(weight) ? TileKind::e4m3 : TileKind::f32;
    case Codes::integer: break;
  }
  if (f.bits <= 4 && starts_on(8)) return TileKind::w4;
  return starts_on(4) ? TileKind::w8 : TileKind::f32;
}

TileKind kind_of(const Weight& weight) {
  if (weight.format.kind == FormatKind::grouped) return grouped_kind(weight);
  switch (weight.format.dtype) {
    case DType::f32: return TileKind::f32;
    case DType::f16: return TileKind::f16;
    case DType::bf16: return TileKind::bf16;
    default:
      throw Error(ErrorCode::unsupported, "weight '" + weight.name + "' is stored as " + weight.format.name(),
                  "a linear needs f32, f16, bf16 or groups of codes");
  }
}

bool all_scales_fit_f16(const Weight& weight, float factor) {
  for (Index row = 0; row < weight.out; ++row) {
    const float* scales = weight.scales.row<float>(row);
    const auto fits = [factor](float s) { return to_f32(to_f16(s * factor)) == s * factor; };
    if (!std::all_of(scales, scales + weight.groups(), fits)) return false;
  }
  return true;
}

template <class T>
void scatter_row(const T* row, Index in, TileKind kind, Index lane, T* tile) {
  for (Index k = 0; k < in; ++k) tile[dense_offset(kind, k, lane)] = row[k];
}

/// Eight nibbles from input k of a row of packed 4-bit codes; zeros past `end`. `flip` turns q into q - 8 in two's
/// complement.
std::uint32_t nibbles_at(const std::uint8_t* row, Index k, Index end, std::uint32_t flip) {
  std::uint32_t word = 0;
  std::memcpy(&word, row + k / 2, static_cast<std::size_t>(std::min<Index>(4, (end - k + 1) / 2)));
  word ^= flip;
  return end - k >= 8 ? word : word & ((1u << (4 * (end - k))) - 1u);
}

}  // namespace

CpuWeight::CpuWeight(const Weight& weight, bool tiled)
    : PackedWeight(weight.format, weight.out, weight.in), tiled_(tiled), kind_(kind_of(weight)) {}

std::unique_ptr<CpuWeight> CpuWeight::tiles(const Weight& weight, ThreadPool& pool) {
  std::unique_ptr<CpuWeight> packed(new CpuWeight(weight, true));
  Weight decoded;
  const bool decode = weight.format.kind == FormatKind::grouped && !is_grouped(packed->kind_);
  if (decode) decoded = to_f32(weight);
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
  packed->own(row_bytes * static_cast<std::size_t>(weight.out));
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
    case TileKind::w4:
    case TileKind::t4: return 8;
    case TileKind::w8:
    case TileKind::e4m3: return 4;
  }
  BITTERN_CHECK(false, "TileKind {}", static_cast<int>(kind_));
}

void CpuWeight::own(std::size_t bytes) {
  memory_ = AlignedBuffer(bytes, AlignedBuffer::Pages::huge);
  bytes_ = {memory_.data(), memory_.size()};
}

void CpuWeight::plan_tiles(const Weight& weight) {
  if (is_grouped(kind_)) plan_header(weight);
  plan_sizes();
  own(static_cast<std::size_t>(tile_count() * tile_bytes_));
}

// What follows from the format, the kind and the header alone.
void CpuWeight::plan_sizes() {
  tile_bytes_ = (in() + step_inputs() - 1) / step_inputs() * kStepBytes;
  if (!is_grouped(kind_)) return;
  const Format& f = format();
  group_ = std::min(f.group_size, round_up(in(), step_inputs()));
  groups_ = (in() + f.group_size - 1) / f.group_size;
  tile_bytes_ += groups_ * header_size();
  if (kind_ == TileKind::w4) center_ = 8;
  if (kind_ == TileKind::w8) center_ = 1 << (f.bits - 1);
  for (int q = 0; q < 16 && kind_ == TileKind::t4; ++q) {
    table_[static_cast<std::size_t>(q)] = code_value(f.codes, static_cast<std::uint8_t>(q));
  }
}

void CpuWeight::plan_header(const Weight& weight) {
  const bool f16 = weight.offsets.rank == 0 && all_scales_fit_f16(weight, kind_ == TileKind::e4m3 ? kE4m3Factor : 1);
  header_ = weight.offsets.rank != 0 ? GroupHeader::f32_offsets : f16 ? GroupHeader::f16_zeros : GroupHeader::f32_zeros;
  if (weight.input_order.rank == 0) return;
  const std::int32_t* order = weight.input_order.as<std::int32_t>();
  input_order_.assign(order, order + in());
  BITTERN_CHECK(std::all_of(order, order + in(), [this](std::int32_t i) { return i >= 0 && i < in(); }),
                "{} has an input order beyond its inputs", weight.name);
}

void CpuWeight::pack_tile(const Weight& weight, Index tile) {
  if (is_grouped(kind_)) {
    pack_grouped_tile(weight, tile);
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

void CpuWeight::pack_header(const Weight& weight, Index row, Index lane, Index g, std::uint8_t* header) const {
  const float scale = weight.scales.row<float>(row)[g] * (kind_ == TileKind::e4m3 ? kE4m3Factor : 1.0f);
  if (header_ == GroupHeader::f16_zeros) {
    reinterpret_cast<std::uint16_t*>(header)[lane] = to_f16(scale).bits;
  } else {
    reinterpret_cast<float*>(header)[lane] = scale;
  }
  if (header_ == GroupHeader::f32_offsets) {
    reinterpret_cast<float*>(header + 64)[lane] = weight.offsets.row<float>(row)[g];
  } else if (weight.zeros.rank != 0) {
    header[(header_ == GroupHeader::f16_zeros ? 32 : 64) + lane] = weight.zeros.row<std::uint8_t>(row)[g];
  }
}

/// Codes [k, end) of one row into their lane of a step, at most a step of them.
void CpuWeight::pack_step(const Weight& weight, Index row, Index lane, Index k, Index end, std::uint8_t* step) const {
  if (kind_ == TileKind::w4 || kind_ == TileKind::t4) {
    const std::uint32_t flip = kind_ == TileKind::w4 ? 0x88888888u : 0;
    const std::uint32_t word = nibbles_at(weight.data.row<std::uint8_t>(row), k, end, flip);
    std::memcpy(step + 4 * lane, &word, 4);
    return;
  }
  for (Index j = 0; j < std::min<Index>(4, end - k); ++j) {
    const std::uint8_t stored = static_cast<std::uint8_t>(weight.code(row, k + j) - center_);
    step[kind_ == TileKind::w8 ? 4 * lane + j : kTileOutputs * j + lane] = stored;
  }
}

void CpuWeight::pack_grouped_tile(const Weight& weight, Index tile) {
  std::uint8_t* to = reinterpret_cast<std::uint8_t*>(memory_.data()) + tile * tile_bytes_;
  const Index first = tile * kTileOutputs, lanes = std::min<Index>(kTileOutputs, out() - first);
  for (Index g = 0; g < groups_; ++g) {
    for (Index lane = 0; lane < lanes; ++lane) pack_header(weight, first + lane, lane, g, to);
    to += header_size();
    const Index end = std::min(in(), (g + 1) * group_);
    for (Index k = g * group_; k < end; k += step_inputs(), to += kStepBytes) {
      for (Index lane = 0; lane < lanes; ++lane) pack_step(weight, first + lane, lane, k, end, to);
    }
  }
}

void CpuWeight::decode_row(Index row, float* out) const {
  BITTERN_CHECK(row >= 0 && row < this->out(), "row {} of {}", row, this->out());
  if (tiled_) return is_grouped(kind_) ? decode_grouped_row(row, out) : decode_tile_row(row, out);
  const std::size_t row_bytes = static_cast<std::size_t>(in()) * dtype_size(format().dtype);
  convert_to_f32(bytes_.data() + static_cast<std::size_t>(row) * row_bytes, format().dtype, in(), out);
}

void CpuWeight::decode_tile_row(Index row, float* out) const {
  const std::byte* tile = bytes_.data() + row / kTileOutputs * tile_bytes_;
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

int CpuWeight::stored_code(const std::uint8_t* step, Index lane, Index j) const {
  switch (kind_) {
    case TileKind::w8: return static_cast<std::int8_t>(step[4 * lane + j]);
    case TileKind::e4m3: return step[kTileOutputs * j + lane];
    default: break;
  }
  std::uint32_t word;
  std::memcpy(&word, step + 4 * lane, 4);
  const int nibble = static_cast<int>((word >> (4 * j)) & 15u);
  return kind_ == TileKind::w4 ? (nibble ^ 8) - 8 : nibble;
}

/// The same operations, in the same order, as to_f32 does, so that embed gives the same bits.
float CpuWeight::decode_code(int stored, const std::uint8_t* header, Index lane) const {
  const float scale = header_ == GroupHeader::f16_zeros
                          ? to_f32(F16{reinterpret_cast<const std::uint16_t*>(header)[lane]})
                          : reinterpret_cast<const float*>(header)[lane];
  if (kind_ == TileKind::t4) return table_[static_cast<std::size_t>(stored)] * scale;
  if (kind_ == TileKind::e4m3) {
    return code_value(Codes::e4m3, static_cast<std::uint8_t>(stored)) * (scale / kE4m3Factor);
  }
  const int q = stored + center_;
  if (header_ == GroupHeader::f32_offsets) {
    return static_cast<float>(q) * scale + reinterpret_cast<const float*>(header + 64)[lane];
  }
  return static_cast<float>(q - header[(header_ == GroupHeader::f16_zeros ? 32 : 64) + lane]) * scale;
}

void CpuWeight::decode_grouped_row(Index row, float* out) const {
  const std::uint8_t* from = data() + row / kTileOutputs * tile_bytes_;
  const Index lane = row % kTileOutputs, step = step_inputs();
  for (Index g = 0; g < groups_; ++g) {
    const std::uint8_t* header = from;
    from += header_size();
    const Index end = std::min(in(), (g + 1) * group_);
    for (Index k = g * group_; k < end; ++k) {
      const Index in_group = k - g * group_;
      const int stored = stored_code(from + in_group / step * kStepBytes, lane, in_group % step);
      out[input_order_.empty() ? k : input_order_[static_cast<std::size_t>(k)]] = decode_code(stored, header, lane);
    }
    from += (end - g * group_ + step - 1) / step * kStepBytes;
  }
}

const CpuWeight& cpu_weight(const PackedWeight& weight) {
  const CpuWeight* packed = dynamic_cast<const CpuWeight*>(&weight);
  BITTERN_CHECK(packed != nullptr, "a weight that another backend prepared");
  return *packed;
}

}  // namespace bittern::cpu
