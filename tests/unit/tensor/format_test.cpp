// What codes stand for, and weights of every kind of codes, shift and input order, against hand-made values.
#include "tensor/format.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tensor/weight.h"

namespace bittern {
namespace {

TEST(Codes, E2m1HasTheSixteenValuesOfItsSpecification) {
  const float expected[] = {0, 0.5F, 1, 1.5F, 2, 3, 4, 6};
  for (int q = 0; q < 8; ++q) {
    EXPECT_EQ(code_value(Codes::e2m1, static_cast<std::uint8_t>(q)), expected[q]);
    EXPECT_EQ(code_value(Codes::e2m1, static_cast<std::uint8_t>(q + 8)), -expected[q]);
  }
}

TEST(Codes, E4m3HasItsExtremesSubnormalsAndNaN) {
  EXPECT_EQ(code_value(Codes::e4m3, 0x7E), 448.0F);
  EXPECT_EQ(code_value(Codes::e4m3, 0xFE), -448.0F);
  EXPECT_EQ(code_value(Codes::e4m3, 0x01), 0x1p-9F);
  EXPECT_EQ(code_value(Codes::e4m3, 0x08), 0x1p-6F);
  EXPECT_EQ(code_value(Codes::e4m3, 0x38), 1.0F);
  EXPECT_TRUE(std::isnan(code_value(Codes::e4m3, 0x7F)));
}

TEST(Weight, OffsetsAreAddedAfterScaling) {
  Weight w = Weight::allocate("w", Format::grouped(5, 2), 1, 4, Weight::Shift::offsets);
  for (int i = 0; i < 4; ++i) w.set_code(0, i, static_cast<std::uint8_t>(10 * i));
  w.scales.as<float>()[0] = 2;
  w.scales.as<float>()[1] = 0;
  w.offsets.as<float>()[0] = -1;
  w.offsets.as<float>()[1] = 7;
  const Weight f = to_f32(w);
  EXPECT_EQ(f.data.as<float>()[0], -1);
  EXPECT_EQ(f.data.as<float>()[1], 19);
  EXPECT_EQ(f.data.as<float>()[2], 7);
  EXPECT_EQ(f.data.as<float>()[3], 7);
}

TEST(Weight, InputOrderPlacesColumns) {
  Weight w = Weight::allocate("w", Format::grouped(3, 4), 2, 4);
  std::int32_t* order = w.allocate_input_order();
  const int places[] = {2, 0, 3, 1};
  for (int i = 0; i < 4; ++i) {
    order[i] = places[i];
    w.set_code(0, i, static_cast<std::uint8_t>(i));
    w.set_code(1, i, static_cast<std::uint8_t>(7 - i));
  }
  w.scales.as<float>()[0] = w.scales.as<float>()[1] = 1;
  const Weight swapped = reorder_rows(w, {1, 0});
  const Weight f = to_f32(swapped);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(f.data.row<float>(1)[places[i]], static_cast<float>(i));
    EXPECT_EQ(f.data.row<float>(0)[places[i]], static_cast<float>(7 - i));
  }
}

TEST(Weight, CodesOfAllWidthsRoundTrip) {
  for (int bits = 2; bits <= 8; ++bits) {
    Weight w = Weight::allocate("w", Format::grouped(bits, 8), 2, 9);
    for (int i = 0; i < 9; ++i) w.set_code(1, i, static_cast<std::uint8_t>((37 * i) % (1 << bits)));
    for (int i = 0; i < 9; ++i) {
      EXPECT_EQ(w.code(1, i), (37 * i) % (1 << bits)) << bits << " bits, column " << i;
      EXPECT_EQ(w.code(0, i), 0);
    }
  }
}

TEST(Format, NamesCodesBitsAndActivations) {
  EXPECT_EQ(Format::grouped(8, 64).name(), "int8 g64");
  EXPECT_EQ(Format::grouped(8, 128, Codes::e4m3).name(), "e4m3 g128");
  Format w8a8 = Format::grouped(8, 64);
  w8a8.int8_activations = true;
  EXPECT_EQ(w8a8.name(), "int8 g64 a8");
}

}  // namespace
}  // namespace bittern
