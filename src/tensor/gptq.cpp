// Packing and unpacking of GPTQ words. The format is input-major, the canonical weight output-major, so work goes in
// strips of columns whose codes fit the cache.
#include "tensor/gptq.h"

#include <bittern/error.h>

#include <algorithm>

#include "base/check.h"
#include "tensor/bit_stream.h"
#include "tensor/convert.h"
#include "tensor/grouped_parts.h"

namespace bittern {
namespace {

constexpr std::int64_t kStrip = 32;

void check_shapes(const std::string& name, const GptqTensors& t, const GptqLayout& layout, std::int64_t in,
                  std::int64_t groups) {
  const std::int64_t out = t.qweight.cols();
  const bool whole = t.qweight.size() > 0 && t.qweight.rows() * 32 % layout.bits == 0 && out * layout.bits % 32 == 0;
  check_part(name + ".qweight", t.qweight, t.qweight.rows(), out, whole && t.qweight.dtype == DType::i32,
             "i32 that hold whole codes");
  check_part(name + ".qzeros", t.qzeros, groups, out * layout.bits / 32, t.qzeros.dtype == DType::i32, "i32");
  check_part(name + ".scales", t.scales, groups, out, is_float(t.scales.dtype), "f16");
  if (t.g_idx.rank != 0) check_part(name + ".g_idx", t.g_idx, in, 1, t.g_idx.dtype == DType::i32, "i32");
}

void unpack_codes(const Tensor& qweight, Weight& weight) {
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(kStrip * weight.in));
  const std::uint32_t* words = qweight.as<const std::uint32_t>();
  for (std::int64_t begin = 0; begin < weight.out; begin += kStrip) {
    const std::int64_t width = std::min(kStrip, weight.out - begin);
    for (std::int64_t k = 0; k < weight.in; ++k) {
      for (std::int64_t n = 0; n < width; ++n) {
        codes[static_cast<std::size_t>(n * weight.in + k)] =
            static_cast<std::uint8_t>(read_field(words + begin + n, weight.out, k, weight.format.bits));
      }
    }
    for (std::int64_t n = 0; n < width; ++n) {
      store_codes(
          weight, begin + n,
          std::span(codes).subspan(static_cast<std::size_t>(n * weight.in), static_cast<std::size_t>(weight.in)));
    }
  }
}

void unpack_zeros(const Tensor& qzeros, GptqZeros zeros, Weight& weight) {
  const std::uint32_t shift = zeros == GptqZeros::minus_one ? 1 : 0;
  const std::uint32_t mask = (1U << weight.format.bits) - 1U;
  for (std::int64_t g = 0; g < qzeros.rows(); ++g) {
    const std::uint32_t* row = qzeros.row<const std::uint32_t>(g);
    for (std::int64_t n = 0; n < weight.out; ++n) {
      weight.zeros.row<std::uint8_t>(n)[g] =
          static_cast<std::uint8_t>((read_field(row, 1, n, weight.format.bits) + shift) & mask);
    }
  }
}

void pack_codes(const Weight& weight, const Tensor& qweight) {
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(kStrip * weight.in));
  std::uint32_t* words = qweight.as<std::uint32_t>();
  for (std::int64_t begin = 0; begin < weight.out; begin += kStrip) {
    const std::int64_t width = std::min(kStrip, weight.out - begin);
    for (std::int64_t n = 0; n < width; ++n) {
      load_codes(
          weight, begin + n,
          std::span(codes).subspan(static_cast<std::size_t>(n * weight.in), static_cast<std::size_t>(weight.in)));
    }
    for (std::int64_t k = 0; k < weight.in; ++k) {
      for (std::int64_t n = 0; n < width; ++n) {
        write_field(words + begin + n, weight.out, k, weight.format.bits,
                    codes[static_cast<std::size_t>(n * weight.in + k)]);
      }
    }
  }
}

void pack_zeros(const Weight& weight, GptqZeros zeros, const Tensor& qzeros) {
  for (std::int64_t g = 0; g < qzeros.rows(); ++g) {
    std::uint32_t* row = qzeros.row<std::uint32_t>(g);
    for (std::int64_t n = 0; n < weight.out; ++n) {
      const std::uint32_t zero = weight.zeros.row<std::uint8_t>(n)[g];
      if (zeros == GptqZeros::minus_one && zero == 0) {
        throw Error(ErrorCode::unsupported, weight.name + ": the zero of output " + std::to_string(n) + ", group " +
                                                std::to_string(g) + " is 0, which GPTQ's first version cannot store");
      }
      write_field(row, 1, n, weight.format.bits, zeros == GptqZeros::minus_one ? zero - 1 : zero);
    }
  }
}

bool is_gptq_width(int bits) { return bits == 2 || bits == 3 || bits == 4 || bits == 8; }

}  // namespace

std::string gptq_refusal(std::int64_t out, std::int64_t in, std::int64_t group_size) {
  if (out % 32 != 0) return "its " + std::to_string(out) + " outputs are not a multiple of 32";
  if (in % 32 != 0) return "its " + std::to_string(in) + " inputs are not a multiple of 32";
  if (group_size <= 0) return "the group size " + std::to_string(group_size) + " is not positive";
  if (in % group_size != 0) {
    return "its " + std::to_string(in) + " inputs are not a multiple of the group size " + std::to_string(group_size);
  }
  return {};
}

GptqTensors pack_gptq(const Weight& weight, GptqZeros zeros) {
  const Format& format = weight.format;
  BITTERN_CHECK(format.kind == FormatKind::grouped && format.codes == Codes::integer && is_gptq_width(format.bits) &&
                weight.zeros.rank != 0);
  if (const std::string reason = gptq_refusal(weight.out, weight.in, format.group_size); !reason.empty()) {
    throw Error(ErrorCode::unsupported, weight.name + ": the GPTQ layout cannot hold it: " + reason);
  }
  GptqTensors tensors;
  tensors.qweight = owned_tensor(tensors.keep, DType::i32, stream_words(weight.in, format.bits), weight.out);
  tensors.qzeros = owned_tensor(tensors.keep, DType::i32, weight.groups(), stream_words(weight.out, format.bits));
  tensors.scales = owned_tensor(tensors.keep, DType::f16, weight.groups(), weight.out);
  tensors.g_idx = owned_tensor(tensors.keep, DType::i32, weight.in, 1);
  pack_codes(weight, tensors.qweight);
  pack_zeros(weight, zeros, tensors.qzeros);
  write_scales(weight, true, tensors.scales);
  std::ranges::copy(group_index(weight), tensors.g_idx.as<std::int32_t>());
  return tensors;
}

Weight unpack_gptq(const std::string& name, const GptqTensors& tensors, const GptqLayout& layout) {
  BITTERN_CHECK(is_gptq_width(layout.bits) && (layout.group_size > 0 || layout.group_size == -1));
  const std::int64_t in = tensors.qweight.rows() * 32 / layout.bits;
  const std::int64_t group_size = layout.group_size == -1 ? std::max<std::int64_t>(in, 1) : layout.group_size;
  check_shapes(name, tensors, layout, in, (in + group_size - 1) / group_size);
  Weight weight = Weight::allocate(name, Format::grouped(layout.bits, group_size), tensors.qweight.cols(), in);
  if (tensors.g_idx.rank != 0) apply_group_index(name + ".g_idx", tensors.g_idx, weight);
  unpack_codes(tensors.qweight, weight);
  unpack_zeros(tensors.qzeros, layout.zeros, weight);
  fill_scales(name + ".scales", tensors.scales, true, weight);
  if (layout.symmetric && !has_symmetric_zeros(weight)) {
    throw Error(ErrorCode::invalid_checkpoint,
                name + ".qzeros: quantization_config says that zeros are symmetric, " +
                    std::to_string(1 << (layout.bits - 1)) + ", but some are not",
                "checkpoint_format may be wrong: 'gptq' stores zeros less one, 'gptq_v2' as they are");
  }
  return weight;
}

}  // namespace bittern
