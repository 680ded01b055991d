// A checkpoint in memory from a list of named tensors, for tests of the readers of quantized formats.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "base/half.h"
#include "support/memory_files.h"
#include "tensor/checkpoint.h"
#include "tensor/tensor.h"

namespace bittern::testing {

class TensorList {
 public:
  /// `values` are raw elements of the type the header names `dtype`.
  template <class T>
  TensorList& add(const std::string& name, const std::string& dtype, const std::vector<std::int64_t>& shape,
                  const std::vector<T>& values) {
    std::string dims;
    for (std::int64_t n : shape) dims += (dims.empty() ? "" : ",") + std::to_string(n);
    const std::size_t begin = data_.size();
    data_.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
    header_ += (header_.empty() ? "\"" : ",\"") + name + R"(":{"dtype":")" + dtype + R"(","shape":[)" + dims +
               R"(],"data_offsets":[)" + std::to_string(begin) + "," + std::to_string(data_.size()) + "]}";
    return *this;
  }
  TensorList& f16(const std::string& name, const std::vector<std::int64_t>& shape, const std::vector<float>& values) {
    std::vector<std::uint16_t> bits;
    for (float value : values) bits.push_back(to_f16(value).bits);
    return add(name, "F16", shape, bits);
  }
  TensorList& f32(const std::string& name, const std::vector<std::int64_t>& shape, const std::vector<float>& values) {
    return add(name, "F32", shape, values);
  }
  TensorList& i32(const std::string& name, const std::vector<std::int64_t>& shape,
                  const std::vector<std::uint32_t>& values) {
    return add(name, "I32", shape, values);
  }
  TensorList& tensor(const std::string& name, const std::string& dtype, const Tensor& tensor) {
    const auto* bytes = tensor.as<const char>();
    return add(name, dtype, {tensor.rows(), tensor.cols()},
               std::vector<char>(bytes, bytes + static_cast<std::size_t>(tensor.size()) * dtype_size(tensor.dtype)));
  }

  std::string header() const { return "{" + header_ + "}"; }
  const std::string& data() const { return data_; }
  std::unique_ptr<Checkpoint> open(const Json& config) const {
    return open_checkpoint(memory_files({{"model.safetensors", raw_safetensors(header(), data_)}}), config);
  }

 private:
  std::string header_, data_;
};

/// Every number of linear `module`, decoded; `parts` is how many tensors it must have used, 0: any.
inline std::vector<float> decoded(const Checkpoint& checkpoint, const std::string& module, std::size_t parts = 0) {
  std::vector<std::string> used;
  const Weight f = to_f32(checkpoint.linear(module, used));
  if (parts != 0) {
    EXPECT_EQ(used.size(), parts);
  }
  const float* values = f.data.as<float>();
  return {values, values + f.out * f.in};
}

}  // namespace bittern::testing
