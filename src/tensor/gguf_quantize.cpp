// Q4_0 and Q8_0 follow ggml's reference loops, whose rounding is part of the format's fame. Q4_K is gguf_q4_k.cpp.
#include "tensor/gguf_quantize.h"

#include <bittern/error.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "base/half.h"
#include "tensor/convert.h"
#include "tensor/gguf_q4_k.h"

namespace bittern {
namespace {

void put_half(std::uint8_t* at, float value) {
  const std::uint16_t bits = to_f16(value).bits;
  std::memcpy(at, &bits, sizeof(bits));
}

// The value of largest size becomes code 0 (-8 steps), so that one sign has one step more than the other.
void encode_q4_0(const float* x, std::uint8_t* b) {
  float largest = 0.0F, size = 0.0F;
  for (int j = 0; j < 32; ++j) {
    if (std::fabs(x[j]) > size) {
      size = std::fabs(x[j]);
      largest = x[j];
    }
  }
  const float d = largest / -8.0F;
  const float inverse = d != 0.0F ? 1.0F / d : 0.0F;
  put_half(b, d);
  const auto code = [&](float value) {
    return static_cast<std::uint8_t>(std::min(15, static_cast<int>(value * inverse + 8.5F)));
  };
  for (int j = 0; j < 16; ++j) b[2 + j] = static_cast<std::uint8_t>(code(x[j]) | code(x[j + 16]) << 4U);
}

void encode_q8_0(const float* x, std::uint8_t* b) {
  float size = 0.0F;
  for (int j = 0; j < 32; ++j) size = std::max(size, std::fabs(x[j]));
  const float d = size / 127.0F;
  const float inverse = d != 0.0F ? 1.0F / d : 0.0F;
  put_half(b, d);
  for (int j = 0; j < 32; ++j) b[2 + j] = static_cast<std::uint8_t>(static_cast<int>(std::roundf(x[j] * inverse)));
}

struct Encoder {
  GgufType type;
  void (*encode)(const float*, std::uint8_t*);
};

constexpr std::array kEncoders = {Encoder{GgufType::q4_0, encode_q4_0}, Encoder{GgufType::q8_0, encode_q8_0},
                                  Encoder{GgufType::q4_k, encode_q4_k}};

const Encoder* encoder_of(GgufType type) {
  const auto found =
      std::find_if(kEncoders.begin(), kEncoders.end(), [&](const auto& row) { return row.type == type; });
  return found == kEncoders.end() ? nullptr : &*found;
}

// The scales of blocks are f16.
void check_values(std::span<const float> values) {
  const auto wrong =
      std::find_if(values.begin(), values.end(), [](float v) { return !(std::fabs(v) <= kGgufLargest); });
  if (wrong == values.end()) return;
  throw Error(ErrorCode::invalid_argument,
              std::isfinite(*wrong) ? "a weight of " + std::to_string(*wrong) + " is too large for a block's scale"
                                    : std::string("a weight that is not finite cannot be quantized"));
}

bool is_dense(GgufType type) { return type == GgufType::f32 || type == GgufType::f16 || type == GgufType::bf16; }

}  // namespace

bool gguf_can_write(GgufType type) { return is_dense(type) || encoder_of(type) != nullptr; }

std::vector<std::byte> gguf_encode(GgufType type, std::span<const float> values) {
  if (!gguf_can_write(type)) {
    throw Error(ErrorCode::unsupported,
                "GGUF type " + gguf_type_name(static_cast<std::uint32_t>(type)) + " cannot be written",
                "Bittern writes F32, F16, BF16, Q4_0, Q8_0 and Q4_K");
  }
  std::vector<std::byte> bytes(static_cast<std::size_t>(gguf_bytes(type, static_cast<std::int64_t>(values.size()))));
  if (is_dense(type)) {
    convert_from_f32(values.data(), gguf_format(type).dtype, static_cast<std::int64_t>(values.size()), bytes.data());
    return bytes;
  }
  check_values(values);
  const GgufTypeInfo& info = *gguf_type_info(static_cast<std::uint32_t>(type));
  auto* out = reinterpret_cast<std::uint8_t*>(bytes.data());
  for (std::size_t at = 0; at < values.size(); at += static_cast<std::size_t>(info.block_values)) {
    encoder_of(type)->encode(values.data() + at, out);
    out += info.block_bytes;
  }
  return bytes;
}

}  // namespace bittern
