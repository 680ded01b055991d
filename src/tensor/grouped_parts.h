// The steps that readers and writers of grouped formats share: checking the type and shape of a stored part, filling
// scales, codes and the order of inputs of a canonical Weight, and making the tensors that go to disk.
// It knows no disk format.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tensor/weight.h"

namespace bittern {

/// Error(invalid_checkpoint) "<name>: found i32[2, 3], expected [2, 4] of i32" unless `fits` and the shape is
/// (rows, cols). `types` names what is accepted.
void check_part(const std::string& name, const Tensor& tensor, std::int64_t rows, std::int64_t cols, bool fits,
                const char* types);

/// One scale as it will be decoded; Error(invalid_checkpoint) naming `part`, row and group when it is not finite.
float checked_scale(const std::string& part, float scale, std::int64_t row, std::int64_t group);

/// Scales stored (out, groups), or (groups, out) when `transposed`, in any float type, become weight.scales.
void fill_scales(const std::string& part, const Tensor& stored, bool transposed, Weight& weight);
/// Scales stored for tiles of `tile_rows` rows by one group become weight.scales; 0 rows: one scale for all.
void fill_tiled_scales(const std::string& part, const Tensor& stored, std::int64_t tile_rows, Weight& weight);
/// The same zero everywhere.
void fill_zeros(Weight& weight, std::uint8_t zero);

/// Puts one row of codes, given in the order of the inputs, where input_order wants them.
void store_codes(Weight& weight, std::int64_t row, std::span<const std::uint8_t> codes);
/// The inverse of store_codes.
void load_codes(const Weight& weight, std::int64_t row, std::span<std::uint8_t> codes);

/// Takes the groups of inputs from `g_idx` (i32, one group per input): nothing when groups are runs of inputs, else an
/// input_order that sorts the inputs by group, stably. Error(invalid_checkpoint) naming `part` when a group does not
/// exist or has not the inputs that the group size gives it.
void apply_group_index(const std::string& part, const Tensor& g_idx, Weight& weight);
/// The inverse: the group of each input.
std::vector<std::int32_t> group_index(const Weight& weight);

/// Owned, zeroed memory for a tensor to be written.
Tensor owned_tensor(std::vector<std::shared_ptr<const void>>& keep, DType dtype, std::int64_t rows, std::int64_t cols);
/// scales (out, groups), or their transpose, rounded to f16, bf16 or f32. Error(unsupported) naming the weight when one
/// becomes infinite or zero.
void write_scales(const Weight& weight, bool transposed, const Tensor& stored);
/// Whether every zero is 2^(bits - 1).
bool has_symmetric_zeros(const Weight& weight);

}  // namespace bittern
