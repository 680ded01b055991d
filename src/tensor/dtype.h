// Element types of tensors and of checkpoints on disk.
// One table (dtype.cpp) gives name, safetensors spelling and size; nothing else in the tree repeats those facts.
// Sub-byte and grouped formats are not dtypes: see tensor/format.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace bittern {

enum class DType : std::uint8_t { f32, f16, bf16, i8, u8, i32, i64, f8_e4m3 };

/// Bytes of one element.
std::size_t dtype_size(DType dtype);
/// Lower-case name: "f32", "bf16", ...
std::string_view dtype_name(DType dtype);
/// The spelling of the safetensors header: "F32", "BF16", ...
std::string_view safetensors_dtype_name(DType dtype);
/// Inverse of safetensors_dtype_name; nullopt when Bittern has no such element type.
std::optional<DType> dtype_from_safetensors(std::string_view name);

}  // namespace bittern
