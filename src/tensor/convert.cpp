// Element conversion loops. They are scalar on purpose: loading is bound by reading the file, and the compiler
// vectorizes bf16, the common case.
#include "tensor/convert.h"

#include <algorithm>

#include "base/check.h"
#include "base/half.h"
#include "tensor/format.h"

namespace bittern {
namespace {

template <class T, class Convert>
void convert_each(const void* src, std::int64_t n, float* dst, Convert convert) {
  const T* values = static_cast<const T*>(src);
  for (std::int64_t i = 0; i < n; ++i) dst[i] = convert(values[i]);
}

}  // namespace

void convert_to_f32(const void* src, DType dtype, std::int64_t n, float* dst) {
  const auto by_value = [](auto value) { return static_cast<float>(value); };
  switch (dtype) {
    case DType::f32: std::copy_n(static_cast<const float*>(src), n, dst); return;
    case DType::f16: return convert_each<F16>(src, n, dst, [](F16 value) { return to_f32(value); });
    case DType::bf16: return convert_each<BF16>(src, n, dst, [](BF16 value) { return to_f32(value); });
    case DType::i8: return convert_each<std::int8_t>(src, n, dst, by_value);
    case DType::u8: return convert_each<std::uint8_t>(src, n, dst, by_value);
    case DType::i32: return convert_each<std::int32_t>(src, n, dst, by_value);
    case DType::i64: return convert_each<std::int64_t>(src, n, dst, by_value);
    case DType::f8_e4m3:
      return convert_each<std::uint8_t>(src, n, dst, [](std::uint8_t q) { return code_value(Codes::e4m3, q); });
  }
}

void convert_from_f32(const float* src, DType dtype, std::int64_t n, void* dst) {
  BITTERN_CHECK(is_float(dtype));
  if (dtype == DType::f32) {
    std::copy_n(src, n, static_cast<float*>(dst));
    return;
  }
  std::uint16_t* out = static_cast<std::uint16_t*>(dst);
  for (std::int64_t i = 0; i < n; ++i) out[i] = dtype == DType::f16 ? to_f16(src[i]).bits : to_bf16(src[i]).bits;
}

bool is_float(DType dtype) { return dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16; }

}  // namespace bittern
