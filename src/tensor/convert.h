// Arrays of any DType to and from f32: the plain loops behind loading, reference code and tests.
// Integers convert by value. It does not know shapes or strides.
#pragma once

#include <cstdint>

#include "tensor/dtype.h"

namespace bittern {

/// dst[i] = src[i] for n elements of `dtype`.
void convert_to_f32(const void* src, DType dtype, std::int64_t n, float* dst);
/// dst[i] = src[i] rounded to nearest even; f32, f16 and bf16 alone (anything else is a bug of the caller).
void convert_from_f32(const float* src, DType dtype, std::int64_t n, void* dst);
/// True for f32, f16 and bf16.
bool is_float(DType dtype);

}  // namespace bittern
