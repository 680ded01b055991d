// Tensor views, element types and conversions.
#include "tensor/tensor.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <vector>

#include "tensor/convert.h"
#include "tensor/format.h"

namespace bittern {
namespace {

TEST(DTypeTest, TableIsConsistent) {
  for (DType dtype :
       {DType::f32, DType::f16, DType::bf16, DType::i8, DType::u8, DType::i32, DType::i64, DType::f8_e4m3}) {
    EXPECT_EQ(dtype_from_safetensors(safetensors_dtype_name(dtype)), dtype);
  }
  EXPECT_EQ(dtype_size(DType::f32), 4u);
  EXPECT_EQ(dtype_size(DType::bf16), 2u);
  EXPECT_EQ(dtype_size(DType::i64), 8u);
  EXPECT_EQ(dtype_name(DType::bf16), "bf16");
  EXPECT_EQ(dtype_from_safetensors("F8_E5M2"), std::nullopt);
  EXPECT_EQ(dtype_from_safetensors("bf16"), std::nullopt) << "header spellings are upper case";
}

TEST(TensorTest, ColumnsSlicesAndHeadsShareMemory) {
  std::vector<float> values(4 * 12);
  std::iota(values.begin(), values.end(), 0.0f);
  const Tensor t = Tensor::of(values.data(), DType::f32, 4, 12);
  const Tensor heads = t.columns(4, 6).heads(3, 2);
  EXPECT_EQ(heads.shape, (std::array<std::int64_t, 3>{4, 3, 2}));
  EXPECT_EQ(heads.row<float>(2)[1 * heads.stride[1] + 1], 2 * 12 + 4 + 1 * 2 + 1);
  const Tensor rows = t.slice(1, 2);
  EXPECT_EQ(rows.rows(), 2);
  EXPECT_EQ(rows.row<float>(1)[0], 24.0f);
  EXPECT_EQ(t.columns(0, 5).size(), 20);
}

TEST(TensorTest, Contiguity) {
  float memory[24];
  const Tensor t = Tensor::of(memory, DType::f32, 4, 6);
  EXPECT_TRUE(t.contiguous());
  EXPECT_TRUE(t.slice(1, 2).contiguous());
  EXPECT_FALSE(t.columns(0, 3).contiguous());
  EXPECT_TRUE(t.slice(0, 1).columns(0, 3).contiguous()) << "one row has no gaps";
  EXPECT_TRUE(Tensor::of(memory, DType::f32, 2, 3, 4).contiguous());
}

TEST(TensorTest, ViewsOfNothingStayNull) {
  const Tensor t = Tensor::of(nullptr, DType::f32, 4, 6);
  EXPECT_EQ(t.columns(2, 3).data, nullptr);
  EXPECT_EQ(t.slice(2, 1).data, nullptr);
  EXPECT_EQ(Tensor{}.size(), 0);
}

TEST(TensorTest, DescribesItself) {
  EXPECT_EQ(Tensor::of(nullptr, DType::bf16, 12, 64).describe(), "bf16[12, 64]");
  EXPECT_EQ(Format::int4(128).name(), "int4 g128");
  EXPECT_EQ(Format::dense(DType::f16).name(), "f16");
}

TEST(TensorDeathTest, SlicesOutsideAreBugs) {
  float memory[6];
  const Tensor t = Tensor::of(memory, DType::f32, 2, 3);
  EXPECT_DEATH(t.columns(2, 2), "check failed");
  EXPECT_DEATH(t.slice(0, 3), "check failed");
  EXPECT_DEATH(t.heads(2, 2), "check failed");
}

TEST(ConvertTest, EveryTypeToFloat) {
  const std::int8_t i8[] = {-128, 127};
  const std::uint8_t u8[] = {0, 255};
  const std::int32_t i32[] = {-7, 1 << 20};
  const std::int64_t i64[] = {-7, std::int64_t{1} << 40};
  const std::uint16_t f16[] = {0x3c00, 0xc000}, bf16[] = {0x3f80, 0xc000};
  const auto convert = [](const void* data, DType dtype) {
    std::vector<float> out(2);
    convert_to_f32(data, dtype, 2, out.data());
    return out;
  };
  EXPECT_EQ(convert(i8, DType::i8), (std::vector<float>{-128, 127}));
  EXPECT_EQ(convert(u8, DType::u8), (std::vector<float>{0, 255}));
  EXPECT_EQ(convert(i32, DType::i32), (std::vector<float>{-7, 1 << 20}));
  EXPECT_EQ(convert(i64, DType::i64), (std::vector<float>{-7, 0x1p40f}));
  EXPECT_EQ(convert(f16, DType::f16), (std::vector<float>{1, -2}));
  EXPECT_EQ(convert(bf16, DType::bf16), (std::vector<float>{1, -2}));
}

TEST(ConvertTest, RoundsToNearestEven) {
  const float values[] = {1.0f, 1.0f + 0x1p-8f, 1.0f + 0x1p-8f + 0x1p-20f, 1.0f + 3 * 0x1p-8f, -0.0f};
  std::uint16_t bf16[5];
  convert_from_f32(values, DType::bf16, 5, bf16);
  EXPECT_EQ(bf16[1], 0x3f80) << "a tie goes to the even neighbour below";
  EXPECT_EQ(bf16[2], 0x3f81);
  EXPECT_EQ(bf16[3], 0x3f82) << "a tie goes to the even neighbour above";
  EXPECT_EQ(bf16[4], 0x8000);
  float back[5];
  convert_to_f32(bf16, DType::bf16, 5, back);
  EXPECT_TRUE(std::signbit(back[4]));
}

}  // namespace
}  // namespace bittern
