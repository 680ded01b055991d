// 8-bit float weights as e4m3 groups.
#include "tensor/fp8.h"

#include <bittern/error.h>

#include <algorithm>

#include "tensor/convert.h"
#include "tensor/grouped_parts.h"

namespace bittern {
namespace {

void refuse_nan(const std::string& name, const Tensor& codes) {
  const std::uint8_t* q = codes.as<const std::uint8_t>();
  const std::uint8_t* end = q + codes.size();
  const std::uint8_t* found = std::find_if(q, end, [](std::uint8_t code) { return (code & 0x7F) == 0x7F; });
  if (found == end) return;
  throw Error(ErrorCode::invalid_checkpoint, name + ".weight: the weight of output " +
                                                 std::to_string((found - q) / codes.cols()) + ", input " +
                                                 std::to_string((found - q) % codes.cols()) + " is not a number");
}

}  // namespace

Weight unpack_fp8(const std::string& name, const Tensor& codes, const std::string& scale_name, const Tensor& scales,
                  ScaleTiles tiles, std::vector<std::shared_ptr<const void>> keep) {
  const std::int64_t out = codes.rows(), in = codes.cols();
  check_part(name + ".weight", codes, out, in, codes.dtype == DType::f8_e4m3 && codes.size() > 0, "f8_e4m3");
  check_part(scale_name, scales, tiles.stored_rows(out), tiles.stored_cols(in), is_float(scales.dtype),
             "f32, f16 or bf16");
  refuse_nan(name, codes);
  Weight weight;
  weight.name = name;
  weight.format = Format::grouped(8, tiles.group_size(in), Codes::e4m3);
  weight.out = out;
  weight.in = in;
  weight.keep = std::move(keep);
  weight.data = Tensor::of(codes.data, DType::u8, out, in);
  weight.scales = owned_tensor(weight.keep, DType::f32, out, weight.groups());
  fill_tiled_scales(scale_name, scales, tiles.rows, weight);
  return weight;
}

}  // namespace bittern
