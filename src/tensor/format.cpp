// Formats by name, and what their codes stand for.
#include "tensor/format.h"

#include <array>
#include <cmath>
#include <limits>

#include "base/check.h"

namespace bittern {
namespace {

// OCP Microscaling Formats (MX) specification 1.0, section 5.3.3.
constexpr std::array<float, 8> kE2m1 = {0.0F, 0.5F, 1.0F, 1.5F, 2.0F, 3.0F, 4.0F, 6.0F};
// The values of ggml's IQ4_NL blocks, before the block's scale.
constexpr std::array<std::int8_t, 16> kIq4Nl = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                1,    13,   25,  38,  53,  69,  89,  113};

// OCP 8-bit floating point specification: 1 sign, 4 exponent bits with bias 7, 3 mantissa bits; S.1111.111 is NaN.
float e4m3_value(std::uint8_t q) {
  const int exponent = (q >> 3) & 15, mantissa = q & 7;
  if (exponent == 15 && mantissa == 7) return std::numeric_limits<float>::quiet_NaN();
  const float size = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                                   : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
  return (q & 128) != 0 ? -size : size;
}

}  // namespace

std::string_view codes_name(Codes codes) {
  switch (codes) {
    case Codes::integer: return "int";
    case Codes::e2m1: return "e2m1";
    case Codes::iq4_nl: return "iq4_nl";
    case Codes::e4m3: return "e4m3";
  }
  BITTERN_CHECK(false, "Codes {}", static_cast<int>(codes));
}

float code_value(Codes codes, std::uint8_t q) {
  switch (codes) {
    case Codes::integer: return static_cast<float>(q);
    case Codes::e2m1: return (q & 8) != 0 ? -kE2m1[q & 7U] : kE2m1[q & 7U];
    case Codes::iq4_nl: return static_cast<float>(kIq4Nl[q & 15U]);
    case Codes::e4m3: return e4m3_value(q);
  }
  BITTERN_CHECK(false, "Codes {}", static_cast<int>(codes));
}

std::string Format::name() const {
  if (kind == FormatKind::dense) return std::string(dtype_name(dtype));
  const std::string base = codes == Codes::integer ? "int" + std::to_string(bits) : std::string(codes_name(codes));
  return base + " g" + std::to_string(group_size) + (int8_activations ? " a8" : "");
}

}  // namespace bittern
