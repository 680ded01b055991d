// The GPTQ layout: against words made by hand, there and back for every width and order, and as a checkpoint with its
// versions, overrides and refusals.
#include "tensor/gptq.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "support/expect_error.h"
#include "support/tensor_list.h"

namespace bittern {
namespace {

using testing::decoded;
using testing::TensorList;

Weight random_weight(int bits, std::int64_t out, std::int64_t in, std::int64_t group, bool ordered, int least_zero) {
  std::mt19937 random(static_cast<unsigned>(bits * 1000 + in));
  Weight w = Weight::allocate("m", Format::grouped(bits, group), out, in);
  if (ordered) {
    std::int32_t* order = w.allocate_input_order();
    std::iota(order, order + in, 0);
    std::shuffle(order, order + in, random);
    for (std::int64_t g = 0; g < in; g += group) std::sort(order + g, order + std::min(in, g + group));
  }
  for (std::int64_t n = 0; n < out; ++n) {
    for (std::int64_t i = 0; i < in; ++i) w.set_code(n, i, static_cast<std::uint8_t>(random() % (1U << bits)));
    for (std::int64_t g = 0; g < w.groups(); ++g) {
      w.scales.row<float>(n)[g] = to_f32(to_f16(static_cast<float>(random() % 1000 + 1) * 1e-4F));
      w.zeros.row<std::uint8_t>(n)[g] =
          static_cast<std::uint8_t>(least_zero + static_cast<int>(random() % ((1U << bits) - least_zero)));
    }
  }
  return w;
}

std::vector<float> values_of(const Weight& weight) {
  const Weight f = to_f32(weight);
  return {f.data.as<float>(), f.data.as<float>() + f.out * f.in};
}

TEST(GptqTest, EveryWidthGoesThereAndBack) {
  for (int bits : {2, 3, 4, 8}) {
    for (bool ordered : {false, true}) {
      for (GptqZeros zeros : {GptqZeros::minus_one, GptqZeros::plain}) {
        const Weight w = random_weight(bits, 64, 96, 32, ordered, zeros == GptqZeros::minus_one ? 1 : 0);
        const GptqTensors packed = pack_gptq(w, zeros);
        EXPECT_EQ(packed.qweight.rows(), 96 * bits / 32);
        EXPECT_EQ(packed.qzeros.cols(), 64 * bits / 32);
        const Weight back = unpack_gptq("m", packed, {bits, 32, zeros, false});
        EXPECT_EQ(back.format, w.format);
        EXPECT_EQ(back.input_order.rank, ordered ? 1 : 0);
        EXPECT_EQ(values_of(back), values_of(w)) << bits << " bits, ordered " << ordered;
      }
    }
  }
}

TEST(GptqTest, WhatCannotBeStoredIsNamed) {
  Weight w = random_weight(4, 32, 32, 32, false, 1);
  w.zeros.row<std::uint8_t>(3)[0] = 0;
  EXPECT_ERROR(ErrorCode::unsupported, "m: the zero of output 3, group 0 is 0", pack_gptq(w, GptqZeros::minus_one));
  w.scales.row<float>(1)[0] = 1e6F;
  EXPECT_ERROR(ErrorCode::unsupported, "of output 1 does not fit f16", pack_gptq(w, GptqZeros::plain));
  EXPECT_ERROR(ErrorCode::unsupported, "its 8 outputs are not a multiple of 32",
               pack_gptq(random_weight(4, 8, 32, 32, false, 1), GptqZeros::plain));
  EXPECT_EQ(gptq_refusal(32, 48, 16), "its 48 inputs are not a multiple of 32");
  EXPECT_EQ(gptq_refusal(32, 96, 64), "its 96 inputs are not a multiple of the group size 64");
}

// 8 inputs and 8 outputs at 4 bits: one word of inputs per output, one word of zeros per group. Output n has the codes
// 0, 1, ..., 7 plus n, the stored zeros are 0, 1, ..., 7, and the scale of output n is 1 in group 0, 2 in group 1.
TensorList by_hand(const std::vector<std::uint32_t>& g_idx) {
  std::vector<std::uint32_t> qweight(8);
  std::vector<float> scales(16, 1.0F);
  for (std::uint32_t n = 0; n < 8; ++n) qweight[n] = 0x76543210U + 0x11111111U * n;
  std::fill(scales.begin() + 8, scales.end(), 2.0F);
  TensorList list;
  list.i32("m.qweight", {1, 8}, qweight)
      .i32("m.qzeros", {2, 1}, {0x76543210U, 0x76543210U})
      .f16("m.scales", {2, 8}, scales);
  if (!g_idx.empty()) list.i32("m.g_idx", {static_cast<std::int64_t>(g_idx.size())}, g_idx);
  return list;
}

const Json kConfig = {{"quant_method", "gptq"}, {"bits", 4}, {"group_size", 4}, {"desc_act", false}, {"sym", false}};

Json with(const char* key, const Json& value) {
  Json config = kConfig;
  config[key] = value;
  return config;
}

TEST(GptqCheckpointTest, HandMadeWordsInBothVersions) {
  const TensorList list = by_hand({0, 0, 0, 0, 1, 1, 1, 1});
  std::vector<float> v1, v2;
  for (int n = 0; n < 8; ++n) {
    for (int k = 0; k < 8; ++k) {
      v2.push_back(static_cast<float>((k + n - n) * (k < 4 ? 1 : 2)));
      v1.push_back(static_cast<float>((k + n - (n + 1)) * (k < 4 ? 1 : 2)));
    }
  }
  EXPECT_EQ(decoded(*list.open(kConfig), "m", 4), v1);
  EXPECT_EQ(decoded(*list.open(with("checkpoint_format", "gptq")), "m", 4), v1);
  EXPECT_EQ(decoded(*list.open(with("checkpoint_format", "gptq_v2")), "m", 4), v2);
  EXPECT_EQ(decoded(*by_hand({}).open(kConfig), "m", 3), v1) << "without g_idx groups are runs";
}

TEST(GptqCheckpointTest, ActOrderTakesGroupsFromTheIndex) {
  const auto checkpoint = by_hand({1, 0, 1, 0, 0, 1, 0, 1}).open(with("desc_act", true));
  const std::vector<float> values = decoded(*checkpoint, "m", 4);
  const int scale[] = {2, 1, 2, 1, 1, 2, 1, 2};
  for (int k = 0; k < 8; ++k) EXPECT_EQ(values[static_cast<std::size_t>(k)], static_cast<float>((k - 1) * scale[k]));
  std::vector<std::string> used;
  const Weight w = checkpoint->linear("m", used);
  const std::int32_t* order = w.input_order.as<std::int32_t>();
  EXPECT_EQ(std::vector<std::int32_t>(order, order + 8), (std::vector<std::int32_t>{1, 3, 4, 6, 0, 2, 5, 7}));
}

TEST(GptqCheckpointTest, OneGroupForAllInputs) {
  TensorList list;
  list.i32("m.qweight", {1, 8}, std::vector<std::uint32_t>(8, 0x88888888U)).i32("m.qzeros", {1, 1}, {0x77777777U});
  list.f16("m.scales", {1, 8}, std::vector<float>(8, 1.0F)).i32("m.g_idx", {8}, std::vector<std::uint32_t>(8, 0));
  Json config = with("group_size", -1);
  config["sym"] = true;
  EXPECT_EQ(decoded(*list.open(config), "m", 4), std::vector<float>(64, 0.0F));
}

TEST(GptqCheckpointTest, BadTensorsAreNamed) {
  const auto refused = [](const TensorList& list, const Json& config, ErrorCode code, const char* says) {
    const auto checkpoint = list.open(config);
    EXPECT_ERROR(code, says, decoded(*checkpoint, "m"));
  };
  const auto invalid = ErrorCode::invalid_checkpoint;
  refused(by_hand({}), with("group_size", 2), invalid, "m.qzeros: found i32[2, 1], expected [4, 1] of i32");
  refused(by_hand({}), with("bits", 8), invalid, "m.qzeros: found i32[2, 1], expected [1, 2] of i32");
  refused(by_hand({}), with("desc_act", true), invalid, "m: has no g_idx");
  refused(by_hand({}), with("sym", true), invalid, "m.qzeros: quantization_config says that zeros are symmetric, 8");
  refused(by_hand({0, 0, 0, 0, 1, 1, 1, 2}), kConfig, invalid, "m.g_idx: input 7 is in group 2 of 2");
  refused(by_hand({0, 0, 0, 0xffffffffU, 1, 1, 1, 1}), kConfig, invalid, "m.g_idx: input 3 is in group -1 of 2");
  refused(by_hand({0, 0, 0, 0, 0, 1, 1, 1}), kConfig, invalid, "m.g_idx: group 0 has 5 inputs");
  refused(by_hand({0, 1}), kConfig, invalid, "m.g_idx: found i32[2, 1], expected [8, 1]");
  TensorList lone;
  lone.i32("m.qweight", {1, 8}, std::vector<std::uint32_t>(8));
  refused(lone, kConfig, invalid, "'m' has no tensor 'm.qzeros'");
  lone.i32("m.qzeros", {2, 1}, {0, 0}).f16("m.scales", {2, 8}, std::vector<float>(16, INFINITY));
  refused(lone, kConfig, invalid, "m.scales: the scale of output 0, group 0 is not finite");
  TensorList plain;
  plain.i32("m.weight", {1, 1}, {7});
  refused(plain, kConfig, invalid, "m.weight: is stored as i32");
}

TEST(GptqCheckpointTest, ConfigurationsThatChangeTheLayoutAreRefused) {
  const auto refused = [](const Json& config, ErrorCode code, const char* says) {
    EXPECT_ERROR(code, says, by_hand({}).open(config));
  };
  refused(with("bits", 5), ErrorCode::unsupported, "bits is an integer (5); Bittern reads 2, 3, 4 or 8");
  refused(with("bits", "4"), ErrorCode::invalid_checkpoint, "bits must be an integer");
  refused(with("bits", nullptr), ErrorCode::invalid_checkpoint, "bits is missing");
  refused(with("group_size", 0), ErrorCode::unsupported, "group_size");
  refused(with("group_size", 18446744073709551615ULL), ErrorCode::invalid_checkpoint, "group_size must be");
  refused(with("checkpoint_format", "marlin"), ErrorCode::unsupported, "checkpoint_format");
  refused(with("is_marlin_format", true), ErrorCode::unsupported, "is_marlin_format");
  refused(with("pack_dtype", "int64"), ErrorCode::unsupported, "pack_dtype");
  refused(with("adapter", {{"name", "lora"}}), ErrorCode::unsupported, "adapter");
  refused(with("dynamic", {{"+:(", Json::object()}}), ErrorCode::unsupported, "the expression '('");
  refused(with("dynamic", {{"+:m", 4}}), ErrorCode::invalid_checkpoint, "dynamic.+:m must be an object");
}

TEST(GptqCheckpointTest, DynamicOverridesSingleLinears) {
  const Json four = {{"group_size", 4}};
  Json config = with("dynamic", {{"+:m$", four}});
  config["group_size"] = 128;
  EXPECT_EQ(decoded(*by_hand({}).open(config), "m"), decoded(*by_hand({}).open(kConfig), "m"));
  config["dynamic"] = {{"-:m$", Json::object()}};
  const auto excluded = by_hand({}).open(config);
  EXPECT_ERROR(ErrorCode::invalid_checkpoint, "'-:m$' excludes it", decoded(*excluded, "m"));
  config["dynamic"] = {{"+:m$", four}, {"m", {{"group_size", 8}}}};
  const auto twice = by_hand({}).open(config);
  EXPECT_ERROR(ErrorCode::unsupported, "two expressions for it, 'm$' and 'm'", decoded(*twice, "m"));
}

TEST(GptqCheckpointTest, ABiasOfZerosNeedsNoPlaceInTheModel) {
  TensorList list = by_hand({});
  list.f16("m.bias", {8}, std::vector<float>(8, 0.0F));
  EXPECT_EQ(decoded(*list.open(kConfig), "m", 4).size(), 64u);
  TensorList real = by_hand({});
  real.f16("m.bias", {8}, std::vector<float>(8, 0.5F));
  EXPECT_EQ(decoded(*real.open(kConfig), "m", 3).size(), 64u);
}

}  // namespace
}  // namespace bittern
