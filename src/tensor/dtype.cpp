// The one table of element types: name, spelling in safetensors headers, size.
// Everything else in the tree asks it. It does not convert values; see tensor/convert.h.
#include "tensor/dtype.h"

#include <iterator>

namespace bittern {
namespace {

struct Row {
  DType dtype;
  std::string_view name;
  std::string_view safetensors_name;
  std::size_t size;
};

constexpr Row kDTypes[] = {
    {DType::f32, "f32", "F32", 4},    {DType::f16, "f16", "F16", 2},
    {DType::bf16, "bf16", "BF16", 2}, {DType::i8, "i8", "I8", 1},
    {DType::u8, "u8", "U8", 1},       {DType::i32, "i32", "I32", 4},
    {DType::i64, "i64", "I64", 8},    {DType::f8_e4m3, "f8_e4m3", "F8_E4M3", 1},
};

// Rows are found by the value of the enum, so their order is part of their meaning.
constexpr bool in_order() {
  for (std::size_t i = 0; i < std::size(kDTypes); ++i) {
    if (static_cast<std::size_t>(kDTypes[i].dtype) != i) return false;
  }
  return std::size(kDTypes) == static_cast<std::size_t>(DType::f8_e4m3) + 1;
}
static_assert(in_order(), "kDTypes must list every DType in the order of the enum");

const Row& row(DType dtype) { return kDTypes[static_cast<std::size_t>(dtype)]; }

}  // namespace

std::size_t dtype_size(DType dtype) { return row(dtype).size; }
std::string_view dtype_name(DType dtype) { return row(dtype).name; }
std::string_view safetensors_dtype_name(DType dtype) { return row(dtype).safetensors_name; }

std::optional<DType> dtype_from_safetensors(std::string_view name) {
  for (const Row& candidate : kDTypes) {
    if (candidate.safetensors_name == name) return candidate.dtype;
  }
  return std::nullopt;
}

}  // namespace bittern
