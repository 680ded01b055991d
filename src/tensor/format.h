// Format: how the numbers of one linear weight are stored, as plain data.
// Every checkpoint format is converted to one of these canonical forms when it is read, and every backend packs from
// them; a backend's private layout is a Packing and never appears here.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "tensor/dtype.h"

namespace bittern {

enum class FormatKind : std::uint8_t {
  dense,    // one dtype, no scales
  grouped,  // codes of a few bits in groups along the input dimension that share a scale (design.md section 4, W4A16)
};

/// What the code q of a grouped format stands for, before it is scaled.
enum class Codes : std::uint8_t {
  integer,  // q itself, less a zero or plus an offset
  e2m1,     // 4-bit float of the OCP microscaling formats (MXFP4), sign in bit 3
  iq4_nl,   // ggml's non-linear table of sixteen integers
  e4m3,     // 8-bit float without infinities (OCP FP8)
};
/// "int", "e2m1", "iq4_nl", "e4m3".
std::string_view codes_name(Codes codes);
/// The number a code of `codes` stands for; q must be below 2^bits. NaN for the two NaN codes of e4m3.
float code_value(Codes codes, std::uint8_t q);

struct Format {
  FormatKind kind = FormatKind::dense;
  DType dtype = DType::f32;     // dense: element type
  std::int64_t group_size = 0;  // grouped: inputs per group; a last group may be shorter
  int bits = 0;                 // grouped: bits of a code, 2 to 8
  Codes codes = Codes::integer;
  /// grouped: the checkpoint was made for activations rounded to 8 bits per token (W8A8). Backends round them so where
  /// they have the kernel; --compute overrides it.
  bool int8_activations = false;

  static Format dense(DType dtype) { return {FormatKind::dense, dtype, 0, 0, Codes::integer, false}; }
  static Format grouped(int bits, std::int64_t group_size, Codes codes = Codes::integer) {
    return {FormatKind::grouped, DType::u8, group_size, bits, codes, false};
  }
  static Format int4(std::int64_t group_size) { return grouped(4, group_size); }

  bool operator==(const Format&) const = default;
  /// "bf16", "int4 g128", "e4m3 g128" or "int8 g4096 a8" (with 8-bit activations).
  std::string name() const;
};

}  // namespace bittern
