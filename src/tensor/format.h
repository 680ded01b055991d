// Format: how the numbers of one linear weight are stored, as plain data.
// Every checkpoint format is converted to one of these canonical forms when it is read, and every backend packs from
// them; a backend's private layout is a Packing and never appears here.
#pragma once

#include <cstdint>
#include <string>

#include "tensor/dtype.h"

namespace bittern {

enum class FormatKind : std::uint8_t {
  dense,         // one dtype, no scales
  grouped_int4,  // asymmetric 4-bit groups along the input dimension (design.md section 4, W4A16)
};

struct Format {
  FormatKind kind = FormatKind::dense;
  DType dtype = DType::f32;     // dense: element type
  std::int64_t group_size = 0;  // grouped: inputs per group; a last group may be shorter

  static Format dense(DType dtype) { return {FormatKind::dense, dtype, 0}; }
  static Format int4(std::int64_t group_size) { return {FormatKind::grouped_int4, DType::u8, group_size}; }

  bool operator==(const Format&) const = default;
  /// "bf16" or "int4 g128".
  std::string name() const;
};

}  // namespace bittern
