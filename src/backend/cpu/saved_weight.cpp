// CpuWeight saved and taken into use again: over mapped bytes without a copy, or unpacked into the canonical weight.
// Whatever a file claims is checked against its format before a byte is used: sizes follow from format, kind and
// header, and nothing of them is taken from the file.
#include <bittern/error.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "backend/cpu/isa.h"
#include "backend/cpu/weight.h"
#include "backend/cpu/weight_layout.h"
#include "base/check.h"
#include "base/half.h"

namespace bittern::cpu {
namespace {

constexpr std::array<std::string_view, kTileKinds> kKindNames = {"f32", "bf16", "f16", "w4", "t4", "w8", "e4m3"};
constexpr std::array<std::string_view, 3> kHeaderNames = {"f16_zeros", "f32_zeros", "f32_offsets"};

[[noreturn]] void refuse(const std::string& reason) {
  throw Error(ErrorCode::invalid_checkpoint, "a packed weight is damaged: " + reason,
              "make the workspace anew: bittern convert MODEL -o DIR");
}

template <std::size_t N>
std::size_t index_of(const std::array<std::string_view, N>& names, const std::string& name, const char* what) {
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) refuse(std::string("its ") + what + " is '" + name + "'");
  return static_cast<std::size_t>(found - names.begin());
}

bool dense_kind_fits(const Format& format, TileKind kind) {
  return (format.dtype == DType::f32 && kind == TileKind::f32) ||
         (format.dtype == DType::f16 && kind == TileKind::f16) ||
         (format.dtype == DType::bf16 && kind == TileKind::bf16);
}

// As grouped_kind() of packing chooses, less what only the numbers decide.
bool grouped_kind_fits(const SavedPacking& saved, TileKind kind) {
  const Format& f = saved.format;
  const auto starts_on = [&](Index step) { return f.group_size % step == 0 || saved.in <= f.group_size; };
  switch (kind) {
    case TileKind::w4: return f.codes == Codes::integer && f.bits <= 4 && starts_on(8);
    case TileKind::w8: return f.codes == Codes::integer && starts_on(4);
    case TileKind::t4: return (f.codes == Codes::e2m1 || f.codes == Codes::iq4_nl) && f.bits == 4 && starts_on(8);
    case TileKind::e4m3: return f.codes == Codes::e4m3 && f.bits == 8 && starts_on(4);
    default: return false;
  }
}

void check_format(const SavedPacking& saved, bool tiled, TileKind kind, GroupHeader header) {
  constexpr Index kMaxWidth = Index{1} << 31;
  if (saved.out < 1 || saved.in < 1 || saved.out > kMaxWidth || saved.in > kMaxWidth) refuse("its shape is impossible");
  if (saved.format.kind == FormatKind::dense) {
    if (!dense_kind_fits(saved.format, kind)) refuse("its tiles do not hold " + saved.format.name());
    return;
  }
  if (!tiled || saved.format.group_size < 1 || saved.format.bits < 2 || saved.format.bits > 8 ||
      !grouped_kind_fits(saved, kind)) {
    refuse("its tiles do not hold " + saved.format.name());
  }
  if (header == GroupHeader::f32_offsets && saved.format.codes != Codes::integer) refuse("its codes have no offsets");
}

}  // namespace

std::optional<SavedPacking> CpuWeight::save() const {
  if (!holds_codes()) return std::nullopt;
  SavedPacking saved;
  saved.layout = layout();
  saved.format = format();
  saved.out = out();
  saved.in = in();
  saved.parameters = {{"tiled", tiled_}, {"kind", kKindNames[static_cast<std::size_t>(kind_)]}};
  if (grouped()) saved.parameters["header"] = kHeaderNames[static_cast<std::size_t>(header_)];
  saved.bytes = bytes_;
  saved.input_order = input_order_;
  return saved;
}

CpuWeight::CpuWeight(const SavedPacking& saved, bool tiled, TileKind kind, GroupHeader header)
    : PackedWeight(saved.format, saved.out, saved.in), tiled_(tiled), kind_(kind), header_(header), keep_(saved.keep) {
  bytes_ = saved.bytes;
  if (tiled_) plan_sizes();
}

std::unique_ptr<CpuWeight> CpuWeight::adopt(const SavedPacking& saved) {
  BITTERN_CHECK(saved.layout == layout(), "{}", saved.layout.describe());
  const bool tiled = require<bool>(saved.parameters, "tiled", "a packed weight");
  const auto kind = static_cast<TileKind>(
      index_of(kKindNames, require<std::string>(saved.parameters, "kind", "a packed weight"), "kind"));
  GroupHeader header = GroupHeader::f32_zeros;
  if (is_grouped(kind)) {
    header = static_cast<GroupHeader>(
        index_of(kHeaderNames, require<std::string>(saved.parameters, "header", "a packed weight"), "header"));
  }
  check_format(saved, tiled, kind, header);
  std::unique_ptr<CpuWeight> weight(new CpuWeight(saved, tiled, kind, header));
  const Index expected = tiled ? weight->tile_count() * weight->tile_bytes_
                               : saved.out * saved.in * static_cast<Index>(dtype_size(saved.format.dtype));
  if (static_cast<Index>(saved.bytes.size()) != expected) {
    refuse("it has " + std::to_string(saved.bytes.size()) + " bytes where " + saved.format.name() + " needs " +
           std::to_string(expected));
  }
  if (reinterpret_cast<std::uintptr_t>(saved.bytes.data()) % AlignedBuffer::kAlignment != 0) refuse("it is misaligned");
  if (saved.input_order.empty()) return weight;
  const auto in_range = [&](std::int32_t i) { return i >= 0 && i < saved.in; };
  if (static_cast<Index>(saved.input_order.size()) != saved.in || !weight->grouped() ||
      !std::all_of(saved.input_order.begin(), saved.input_order.end(), in_range)) {
    refuse("its input order is not one of its inputs");
  }
  weight->input_order_.assign(saved.input_order.begin(), saved.input_order.end());
  return weight;
}

Weight CpuWeight::unpack(std::string name) const {
  BITTERN_CHECK(holds_codes(), "{} was decoded", name);
  if (!tiled_) {
    Weight view;
    view.name = std::move(name);
    view.format = format();
    view.out = out();
    view.in = in();
    view.data = Tensor::of(const_cast<std::byte*>(bytes_.data()), format().dtype, out(), in());
    if (keep_) view.keep.push_back(keep_);
    return view;
  }
  const auto shift = header_ == GroupHeader::f32_offsets ? Weight::Shift::offsets : Weight::Shift::zeros;
  Weight weight = Weight::allocate(std::move(name), format(), out(), in(), shift);
  if (!input_order_.empty()) std::copy(input_order_.begin(), input_order_.end(), weight.allocate_input_order());
  for (Index row = 0; row < out(); ++row) {
    if (grouped()) {
      unpack_grouped_lane(weight, row);
    } else {
      unpack_lane(weight, row);
    }
  }
  return weight;
}

void CpuWeight::unpack_lane(Weight& weight, Index row) const {
  const std::uint8_t* tile = data() + row / kTileOutputs * tile_bytes_;
  const Index lane = row % kTileOutputs;
  for (Index k = 0; k < in(); ++k) {
    const Index at = dense_offset(kind_, k, lane);
    if (kind_ == TileKind::f32) {
      weight.data.row<float>(row)[k] = reinterpret_cast<const float*>(tile)[at];
    } else {
      weight.data.row<std::uint16_t>(row)[k] = reinterpret_cast<const std::uint16_t*>(tile)[at];
    }
  }
}

void CpuWeight::unpack_grouped_lane(Weight& weight, Index row) const {
  const std::uint8_t* from = data() + row / kTileOutputs * tile_bytes_;
  for (Index g = 0; g < groups_; ++g) {
    unpack_header(weight, row, g, from);
    from += header_size();
    const Index end = std::min(in(), (g + 1) * group_);
    for (Index k = g * group_; k < end; k += step_inputs(), from += kStepBytes) unpack_step(weight, row, k, end, from);
  }
}

void CpuWeight::unpack_header(Weight& weight, Index row, Index g, const std::uint8_t* header) const {
  const Index lane = row % kTileOutputs;
  const float scale = header_ == GroupHeader::f16_zeros
                          ? to_f32(F16{reinterpret_cast<const std::uint16_t*>(header)[lane]})
                          : reinterpret_cast<const float*>(header)[lane];
  weight.scales.row<float>(row)[g] = kind_ == TileKind::e4m3 ? scale / kE4m3Factor : scale;
  if (weight.offsets.rank != 0) weight.offsets.row<float>(row)[g] = reinterpret_cast<const float*>(header + 64)[lane];
  if (weight.zeros.rank != 0) {
    weight.zeros.row<std::uint8_t>(row)[g] = header[(header_ == GroupHeader::f16_zeros ? 32 : 64) + lane];
  }
}

/// The codes [k, end) of one row, at most a step of them.
void CpuWeight::unpack_step(Weight& weight, Index row, Index k, Index end, const std::uint8_t* step) const {
  const Index lane = row % kTileOutputs;
  if (kind_ == TileKind::w4 || kind_ == TileKind::t4) {
    std::uint32_t word;
    std::memcpy(&word, step + 4 * lane, 4);
    word ^= kind_ == TileKind::w4 ? 0x88888888u : 0;
    const Index count = std::min<Index>(8, end - k);
    if (count < 8) word &= (1u << (4 * count)) - 1u;
    std::memcpy(weight.data.row<std::uint8_t>(row) + k / 2, &word, static_cast<std::size_t>((count + 1) / 2));
    return;
  }
  for (Index j = 0; j < std::min<Index>(4, end - k); ++j) {
    const std::uint8_t stored = step[kind_ == TileKind::w8 ? 4 * lane + j : kTileOutputs * j + lane];
    weight.set_code(row, k + j, static_cast<std::uint8_t>(stored + center_));
  }
}

}  // namespace bittern::cpu

namespace bittern {

Weight unpack(const SavedPacking& saved, std::string name) {
  if (saved.layout == cpu::CpuWeight::layout()) return cpu::CpuWeight::adopt(saved)->unpack(std::move(name));
  throw Error(ErrorCode::unsupported,
              "the weights are packed as " + saved.layout.describe() + "; this program reads " +
                  cpu::CpuWeight::layout().describe(),
              "make the workspace anew: bittern convert MODEL -o DIR");
}

PackingLayout cpu_packing_layout(const std::string& level) {
  static_cast<void>(cpu::parse_isa(level));  // all levels share the layout; the name must be one all the same
  return cpu::CpuWeight::layout();
}

std::string best_cpu_level() { return std::string(cpu::isa_name(cpu::best_isa())); }

}  // namespace bittern
