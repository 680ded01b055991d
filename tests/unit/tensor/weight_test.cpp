// Canonical weights: decoding, and rows taken in another order or stacked.
#include "tensor/weight.h"

#include <gtest/gtest.h>

#include "support/expect_error.h"

namespace bittern {
namespace {

// A weight whose codes, scales and zeros all differ from row to row.
Weight make_int4(std::int64_t out, std::int64_t in, std::int64_t group) {
  Weight w = Weight::allocate("w", Format::int4(group), out, in);
  for (std::int64_t n = 0; n < out; ++n) {
    for (std::int64_t i = 0; i < in; ++i) {
      w.data.row<std::uint8_t>(n)[i / 2] |= static_cast<std::uint8_t>(((n * 3 + i * 5) % 16) << (4 * (i % 2)));
    }
    for (std::int64_t g = 0; g < w.groups(); ++g) {
      w.scales.row<float>(n)[g] = 0.25f * static_cast<float>(n + 1) + static_cast<float>(g);
      w.zeros.row<std::uint8_t>(n)[g] = static_cast<std::uint8_t>((n + 7 * g) % 16);
    }
  }
  return w;
}

TEST(WeightTest, Int4DecodesByItsDefinition) {
  const Weight w = make_int4(3, 7, 4);  // odd width, and a last group of three
  EXPECT_EQ(w.groups(), 2);
  EXPECT_EQ(w.bytes(), 3 * 4 + 3 * 2 * 4 + 3 * 2);
  const Weight f = to_f32(w);
  for (std::int64_t n = 0; n < 3; ++n) {
    for (std::int64_t i = 0; i < 7; ++i) {
      const std::int64_t g = i / 4;
      const float expected = static_cast<float>((n * 3 + i * 5) % 16 - (n + 7 * g) % 16) *
                             (0.25f * static_cast<float>(n + 1) + static_cast<float>(g));
      EXPECT_EQ(f.data.row<float>(n)[i], expected) << n << ' ' << i;
    }
  }
}

TEST(WeightTest, DenseDecodesRowsOfAnyStride) {
  std::uint16_t memory[] = {0x3f80, 0x4000, 0xffff, 0x4040, 0x4080, 0xffff};  // rows of 2 in steps of 3
  Weight w{"v", Format::dense(DType::bf16), 2, 2, Tensor::of(memory, DType::bf16, 2, 3).columns(0, 2), {}, {}, {}, {},
           {}};
  const Weight f = to_f32(w);
  EXPECT_EQ(f.data.row<float>(0)[1], 2.0f);
  EXPECT_EQ(f.data.row<float>(1)[0], 3.0f);
  EXPECT_EQ(f.data.row<float>(1)[1], 4.0f);
}

TEST(WeightTest, ReorderedRowsCarryScalesAndZeros) {
  const Weight w = make_int4(4, 6, 4);
  const std::vector<std::int64_t> order = {2, 0, 3, 1};
  const Weight before = to_f32(w), after = to_f32(reorder_rows(w, order));
  for (std::size_t n = 0; n < 4; ++n) {
    for (std::int64_t i = 0; i < 6; ++i) {
      EXPECT_EQ(after.data.row<float>(static_cast<std::int64_t>(n))[i], before.data.row<float>(order[n])[i]);
    }
  }
}

TEST(WeightTest, ConcatenatedRowsFollowEachOther) {
  const Weight a = make_int4(2, 6, 4), b = make_int4(3, 6, 4);
  const Weight both = concatenate_rows({a, b});
  EXPECT_EQ(both.out, 5);
  const Weight f = to_f32(both), fb = to_f32(b);
  for (std::int64_t i = 0; i < 6; ++i) EXPECT_EQ(f.data.row<float>(4)[i], fb.data.row<float>(2)[i]);
}

TEST(WeightTest, DifferentFormatsAreNotStacked) {
  EXPECT_ERROR(ErrorCode::internal, "int4 g4", concatenate_rows({make_int4(2, 6, 4), make_int4(2, 6, 2)}));
  EXPECT_ERROR(ErrorCode::internal, "no weights", concatenate_rows({}));
}

}  // namespace
}  // namespace bittern
