// Packing and unpacking of AWQ GEMM words. Both directions transpose: the format is input-major, the canonical weight
// output-major, so work goes in strips of columns that keep the strip's output rows in the cache.
#include "tensor/awq.h"

#include <bittern/error.h>

#include <algorithm>
#include <cmath>

#include "base/buffer.h"
#include "base/check.h"
#include "base/half.h"
#include "tensor/convert.h"

namespace bittern {
namespace {

constexpr std::int64_t kWordColumns = 8;
constexpr std::int64_t kStripWords = 16;  // one cache line of words: 128 output rows are written at a time

std::uint32_t nibble(std::uint32_t word, int i) { return (word >> (4 * i)) & 15u; }

Tensor owned(AwqTensors& owner, DType dtype, std::int64_t rows, std::int64_t cols) {
  auto memory = std::make_shared<AlignedBuffer>(static_cast<std::size_t>(rows * cols) * dtype_size(dtype));
  void* data = memory->data();
  owner.keep.push_back(std::move(memory));
  return Tensor::of(data, dtype, rows, cols);
}

// --- reading ---

void check_tensor(const std::string& name, const char* part, const Tensor& tensor, std::int64_t rows, std::int64_t cols,
                  bool type_fits) {
  if (tensor.rank == 2 && tensor.rows() == rows && tensor.cols() == cols && type_fits) return;
  throw Error(ErrorCode::invalid_checkpoint, name + "." + part + ": found " + tensor.describe() + ", expected [" +
                                                 std::to_string(rows) + ", " + std::to_string(cols) + "] of " +
                                                 (part == std::string("scales") ? "f16" : "i32"));
}

void check_shapes(const std::string& name, const AwqTensors& tensors, std::int64_t group_size) {
  const Tensor& q = tensors.qweight;
  check_tensor(name, "qweight", q, q.rows(), q.cols(), q.rank == 2 && q.dtype == DType::i32 && q.size() > 0);
  const std::int64_t groups = (q.rows() + group_size - 1) / group_size;
  check_tensor(name, "qzeros", tensors.qzeros, groups, q.cols(), tensors.qzeros.dtype == DType::i32);
  check_tensor(name, "scales", tensors.scales, groups, q.cols() * kWordColumns, is_float(tensors.scales.dtype));
}

void unpack_strip(const Tensor& qweight, std::int64_t first_word, std::int64_t last_word, Weight& weight) {
  for (std::int64_t k = 0; k < weight.in; k += 2) {
    const std::uint32_t* low = qweight.row<std::uint32_t>(k);
    const std::uint32_t* high = k + 1 < weight.in ? qweight.row<std::uint32_t>(k + 1) : nullptr;
    for (std::int64_t c = first_word; c < last_word; ++c) {
      const std::uint32_t high_word = high ? high[c] : 0u;
      for (int i = 0; i < kWordColumns; ++i) {
        const std::int64_t n = kWordColumns * c + kAwqOrder[static_cast<std::size_t>(i)];
        weight.data.row<std::uint8_t>(n)[k / 2] =
            static_cast<std::uint8_t>(nibble(low[c], i) | (nibble(high_word, i) << 4));
      }
    }
  }
}

void unpack_zeros(const Tensor& qzeros, Weight& weight) {
  for (std::int64_t g = 0; g < qzeros.rows(); ++g) {
    for (std::int64_t c = 0; c < qzeros.cols(); ++c) {
      const std::uint32_t word = qzeros.row<std::uint32_t>(g)[c];
      for (int i = 0; i < kWordColumns; ++i) {
        const std::int64_t n = kWordColumns * c + kAwqOrder[static_cast<std::size_t>(i)];
        weight.zeros.row<std::uint8_t>(n)[g] = static_cast<std::uint8_t>(nibble(word, i));
      }
    }
  }
}

void unpack_scales(const std::string& name, const Tensor& scales, Weight& weight) {
  std::vector<float> row(static_cast<std::size_t>(weight.out));
  for (std::int64_t g = 0; g < scales.rows(); ++g) {
    convert_to_f32(scales.slice(g, 1).data, scales.dtype, weight.out, row.data());
    for (std::int64_t n = 0; n < weight.out; ++n) {
      const float scale = row[static_cast<std::size_t>(n)];
      if (!std::isfinite(scale)) {
        throw Error(ErrorCode::invalid_checkpoint, name + ".scales: the scale of group " + std::to_string(g) +
                                                       ", output " + std::to_string(n) + " is not finite");
      }
      weight.scales.row<float>(n)[g] = scale;
    }
  }
}

// --- writing ---

std::uint32_t canonical_q(const Weight& weight, std::int64_t n, std::int64_t k) {
  const std::uint8_t byte = weight.data.row<std::uint8_t>(n)[k / 2];
  return k % 2 == 0 ? byte & 15u : byte >> 4;
}

// Word c of a row whose column n has the value of(n).
template <class Of>
std::uint32_t pack_word(std::int64_t c, Of of) {
  std::uint32_t word = 0;
  for (int i = 0; i < kWordColumns; ++i) {
    word |= of(kWordColumns * c + kAwqOrder[static_cast<std::size_t>(i)]) << (4 * i);
  }
  return word;
}

void pack_strip(const Weight& weight, std::int64_t first_word, std::int64_t last_word, const Tensor& qweight) {
  for (std::int64_t k = 0; k < weight.in; ++k) {
    std::uint32_t* row = qweight.row<std::uint32_t>(k);
    for (std::int64_t c = first_word; c < last_word; ++c) {
      row[c] = pack_word(c, [&](std::int64_t n) { return canonical_q(weight, n, k); });
    }
  }
}

void pack_zeros(const Weight& weight, const Tensor& qzeros) {
  for (std::int64_t g = 0; g < qzeros.rows(); ++g) {
    for (std::int64_t c = 0; c < qzeros.cols(); ++c) {
      qzeros.row<std::uint32_t>(g)[c] =
          pack_word(c, [&](std::int64_t n) { return std::uint32_t{weight.zeros.row<std::uint8_t>(n)[g]}; });
    }
  }
}

void pack_scales(const Weight& weight, const Tensor& scales) {
  for (std::int64_t n = 0; n < weight.out; ++n) {
    for (std::int64_t g = 0; g < scales.rows(); ++g) {
      const float scale = weight.scales.row<float>(n)[g];
      const F16 rounded = to_f16(scale);
      if (!std::isfinite(to_f32(rounded)) || (to_f32(rounded) == 0) != (scale == 0)) {
        throw Error(ErrorCode::unsupported, weight.name + ": the scale " + std::to_string(scale) + " of output " +
                                                std::to_string(n) + " does not fit f16, which AWQ stores");
      }
      scales.row<F16>(g)[n] = rounded;
    }
  }
}

}  // namespace

std::string awq_refusal(std::int64_t out, std::int64_t in, std::int64_t group_size) {
  if (out % kWordColumns != 0) return "its " + std::to_string(out) + " outputs are not a multiple of 8";
  if (group_size <= 0) return "the group size " + std::to_string(group_size) + " is not positive";
  if (in % group_size != 0) {
    return "its " + std::to_string(in) + " inputs are not a multiple of the group size " + std::to_string(group_size);
  }
  return {};
}

AwqTensors pack_awq(const Weight& weight) {
  BITTERN_CHECK(weight.format == Format::int4(weight.format.group_size) && weight.zeros.rank != 0 &&
                weight.input_order.rank == 0);
  if (const std::string reason = awq_refusal(weight.out, weight.in, weight.format.group_size); !reason.empty()) {
    throw Error(ErrorCode::unsupported, weight.name + ": the AWQ layout cannot hold it: " + reason);
  }
  AwqTensors tensors;
  const std::int64_t words = weight.out / kWordColumns;
  tensors.qweight = owned(tensors, DType::i32, weight.in, words);
  tensors.qzeros = owned(tensors, DType::i32, weight.groups(), words);
  tensors.scales = owned(tensors, DType::f16, weight.groups(), weight.out);
  for (std::int64_t c = 0; c < words; c += kStripWords) {
    pack_strip(weight, c, std::min(c + kStripWords, words), tensors.qweight);
  }
  pack_zeros(weight, tensors.qzeros);
  pack_scales(weight, tensors.scales);
  return tensors;
}

Weight unpack_awq(const std::string& name, const AwqTensors& tensors, std::int64_t group_size) {
  BITTERN_CHECK(group_size > 0);
  check_shapes(name, tensors, group_size);
  const std::int64_t words = tensors.qweight.cols();
  Weight weight = Weight::allocate(name, Format::int4(group_size), words * kWordColumns, tensors.qweight.rows());
  for (std::int64_t c = 0; c < words; c += kStripWords) {
    unpack_strip(tensors.qweight, c, std::min(c + kStripWords, words), weight);
  }
  unpack_zeros(tensors.qzeros, weight);
  unpack_scales(name, tensors.scales, weight);
  return weight;
}

}  // namespace bittern
