// compressed-tensors and fp8 checkpoints made by hand: old packing, order of inputs, targets, blocks, and everything
// that is refused by name. What the package itself writes is held in format_golden_test.cpp.
#include <gtest/gtest.h>

#include "support/expect_error.h"
#include "support/tensor_list.h"
#include "tensor/compressed_config.h"

namespace bittern {
namespace {

using testing::decoded;
using testing::TensorList;

constexpr auto kInvalid = ErrorCode::invalid_checkpoint;
constexpr auto kUnsupported = ErrorCode::unsupported;

Json group(const Json& weights, const std::vector<std::string>& targets = {"Linear"}) {
  return {{"targets", targets}, {"weights", weights}, {"input_activations", nullptr}};
}

Json config_of(const Json& weights, const char* format = "pack-quantized") {
  return {{"quant_method", "compressed-tensors"},
          {"format", format},
          {"quantization_status", "compressed"},
          {"config_groups", {{"group_0", group(weights)}}},
          {"ignore", {"lm_head"}}};
}

const Json kPack3 = {{"num_bits", 3}, {"type", "int"}, {"strategy", "channel"}, {"symmetric", true}};
const Json kPack4 = {{"num_bits", 4}, {"type", "int"}, {"strategy", "group"}, {"group_size", 4}, {"symmetric", true}};
const Json kFp8 = {{"num_bits", 8}, {"type", "float"}, {"strategy", "tensor"}, {"symmetric", true}};

// One output of eight inputs with the signed codes -8, -7, ..., -1 and the scales 1 and 2.
TensorList eight() {
  TensorList list;
  list.i32("m.weight_packed", {1, 1}, {0x76543210U}).f32("m.weight_scale", {1, 2}, {1, 2});
  return list.add<std::int64_t>("m.weight_shape", "I64", {2}, {1, 8});
}

TEST(CompressedCheckpoint, GroupsAndOrderOfInputs) {
  EXPECT_EQ(decoded(*eight().open(config_of(kPack4)), "m", 3), (std::vector<float>{-8, -7, -6, -5, -8, -6, -4, -2}));
  TensorList ordered = eight();
  ordered.i32("m.weight_g_idx", {8}, {0, 1, 0, 1, 0, 1, 0, 1});
  EXPECT_EQ(decoded(*ordered.open(config_of(kPack4)), "m", 4), (std::vector<float>{-8, -14, -6, -10, -4, -6, -2, -2}));
  TensorList unset = eight();
  unset.i32("m.weight_g_idx", {8}, std::vector<std::uint32_t>(8, 0xffffffffU));
  EXPECT_EQ(decoded(*unset.open(config_of(kPack4)), "m", 4), (std::vector<float>{-8, -7, -6, -5, -8, -6, -4, -2}));
}

// 32 codes of 3 bits take 3 words without gaps and 4 words of 10 codes each; 11 codes take 2 in both ways.
TEST(CompressedCheckpoint, WordsWithGapsAreToldByTheirNumber) {
  TensorList gaps;
  std::vector<std::uint32_t> words(4);
  std::vector<float> expected;
  for (std::uint32_t k = 0; k < 32; ++k) {
    words[k / 10] |= (k % 8) << (3 * (k % 10));
    expected.push_back(static_cast<float>(k % 8) - 4);
  }
  gaps.i32("m.weight_packed", {1, 4}, words).f32("m.weight_scale", {1, 1}, {1});
  gaps.add<std::int64_t>("m.weight_shape", "I64", {2}, {1, 32});
  EXPECT_EQ(decoded(*gaps.open(config_of(kPack3)), "m"), expected);

  TensorList unclear;
  unclear.i32("m.weight_packed", {1, 2}, {0, 0}).f32("m.weight_scale", {1, 1}, {1});
  unclear.add<std::int64_t>("m.weight_shape", "I64", {2}, {1, 11});
  const auto checkpoint = unclear.open(config_of(kPack3));
  EXPECT_ERROR(kUnsupported, "cannot be told apart", decoded(*checkpoint, "m"));
}

TEST(CompressedCheckpoint, BadTensorsAreNamed) {
  const auto refused = [](const TensorList& list, const Json& config, const char* says) {
    const auto checkpoint = list.open(config);
    EXPECT_ERROR(kInvalid, says, decoded(*checkpoint, "m"));
  };
  TensorList shape;
  shape.i32("m.weight_packed", {1, 1}, {0}).f32("m.weight_scale", {1, 2}, {1, 2});
  shape.add<std::int64_t>("m.weight_shape", "I64", {2}, {1, 16});
  refused(shape, config_of(kPack4), "m.weight_packed: 16 codes of 4 bits take 2 words, found 1");
  TensorList rows;
  rows.i32("m.weight_packed", {1, 1}, {0}).f32("m.weight_scale", {1, 2}, {1, 2});
  rows.add<std::int64_t>("m.weight_shape", "I64", {2}, {2, 8});
  refused(rows, config_of(kPack4), "m.weight_shape: says [2, 8]");
  refused(eight(), config_of(kPack3), "m.weight_scale: found f32[1, 2], expected [1, 1]");
  Json asymmetric = kPack4;
  asymmetric["symmetric"] = false;
  refused(eight(), config_of(asymmetric), "'m' has no tensor 'm.weight_zero_point'");
  Json ignored = config_of(kPack4);
  ignored["ignore"] = {"re:m"};
  refused(eight(), ignored, "m: is stored quantized, but no group");
  TensorList plain;
  plain.f32("m.weight", {1, 1}, {1});
  refused(plain, config_of(kPack4), "'m' has no tensor 'm.weight_packed'");
  TensorList range;
  range.add<std::int8_t>("m.weight", "I8", {1, 2}, {7, 8}).f32("m.weight_scale", {1, 1}, {1});
  Json four = kPack4;
  four["strategy"] = "channel";
  four.erase("group_size");
  refused(range, config_of(four, "int-quantized"), "m.weight: holds 8, which is not of 4 bits");
  TensorList nan;
  nan.add<std::uint8_t>("m.weight", "F8_E4M3", {1, 2}, {0x38, 0xFF}).f32("m.weight_scale", {1}, {1});
  refused(nan, config_of(kFp8, "float-quantized"), "m.weight: the weight of output 0, input 1 is not a number");
}

TEST(CompressedConfigTest, TheMostSpecificTargetWins) {
  Json json = config_of(kPack4);
  Json three = kPack3;
  json["config_groups"]["b"] = group(three, {"re:.*proj$", "x.exact"});
  const CompressedConfig config(json);
  EXPECT_EQ(config.group_of("a.up_proj")->layout.bits, 3);
  EXPECT_EQ(config.group_of("x.exact")->layout.bits, 3);
  EXPECT_EQ(config.group_of("a.other")->layout.bits, 4);
  EXPECT_EQ(config.group_of("lm_head"), nullptr);
  json["config_groups"]["c"] = group(kPack4, {"x.exact"});
  EXPECT_ERROR(kInvalid, "b and c both target 'x.exact'", CompressedConfig{json});
}

TEST(CompressedConfigTest, WhatIsNotReadIsRefusedByName) {
  const auto refused = [](const Json& json, ErrorCode code, const char* says) {
    EXPECT_ERROR(code, says, CompressedConfig{json});
  };
  const auto with = [](const char* key, const Json& value) {
    Json json = config_of(kPack4);
    json[key] = value;
    return json;
  };
  const auto inputs = [](const Json& weights, const char* format, const Json& value) {
    Json json = config_of(weights, format);
    json["config_groups"]["group_0"]["input_activations"] = value;
    return json;
  };
  for (const char* format : {"nvfp4-pack-quantized", "marlin-24", "sparse-24-bitmask", "dense", "mxfp8-quantized"}) {
    refused(with("format", format), kUnsupported, format);
  }
  refused(with("sparsity_config", {{"format", "sparse-bitmask"}}), kUnsupported, "sparsity_config.format");
  refused(with("kv_cache_scheme", {{"num_bits", 8}}), kUnsupported, "kv_cache_scheme");
  refused(with("transform_config", {{"config_groups", 1}}), kUnsupported, "transform_config");
  refused(with("quantization_status", "frozen"), kUnsupported, "quantization_status");
  refused(with("config_groups", Json::object()), kInvalid, "config_groups");
  refused(with("ignore", {1}), kInvalid, "ignore must be a list of names");
  refused(with("ignore", {"re:("}), kUnsupported, "the expression '('");
  Json one = kPack4;
  one["num_bits"] = 1;
  refused(config_of(one), kUnsupported, "num_bits");
  const Json static_int = {{"num_bits", 8}, {"type", "int"}, {"dynamic", false}, {"strategy", "tensor"}};
  const Json int8_tokens = {{"num_bits", 8}, {"type", "int"}, {"dynamic", true}, {"strategy", "token"}};
  refused(inputs(kPack4, "pack-quantized", static_int), kUnsupported, "input_activations.dynamic");
  refused(inputs(kFp8, "float-quantized", int8_tokens), kUnsupported, "rounds inputs to 8-bit int");
  refused(inputs(kPack4, "pack-quantized", {{"num_bits", 4}, {"dynamic", true}}), kUnsupported, "4-bit int");
}

TEST(Fp8Checkpoint, BlocksTensorsAndOutputs) {
  TensorList list;  // codes of 1, 2, 4, 8 in the first row, -1 in the others
  std::vector<std::uint8_t> codes(12, 0xB8);
  const std::uint8_t first[] = {0x38, 0x40, 0x48, 0x50};
  std::copy(first, first + 4, codes.begin());
  list.add("b.weight", "F8_E4M3", {3, 4}, codes).f32("b.weight_scale_inv", {2, 2}, {1, 2, 3, 4});
  list.add("t.weight", "F8_E4M3", {3, 4}, codes).f32("t.weight_scale", {}, {10}).f32("t.input_scale", {}, {1});
  list.add("o.weight", "F8_E4M3", {3, 4}, codes).f32("o.weight_scale", {3, 1}, {1, 2, 3});
  list.f32("plain.weight", {1, 1}, {5});
  Json config = {{"quant_method", "fp8"}, {"activation_scheme", "dynamic"}, {"weight_block_size", {2, 3}}};
  const auto blocks = list.open(config);
  EXPECT_EQ(decoded(*blocks, "b", 2), (std::vector<float>{1, 2, 4, 16, -1, -1, -1, -2, -3, -3, -3, -4}));
  EXPECT_EQ(decoded(*blocks, "plain", 1), (std::vector<float>{5}));
  config.erase("weight_block_size");
  EXPECT_EQ(decoded(*list.open(config), "o", 2), (std::vector<float>{1, 2, 4, 8, -2, -2, -2, -2, -3, -3, -3, -3}));
  config["activation_scheme"] = "static";
  const auto per_tensor = list.open(config);
  EXPECT_EQ(decoded(*per_tensor, "t", 3), (std::vector<float>{10, 20, 40, 80, -10, -10, -10, -10, -10, -10, -10, -10}));
  EXPECT_ERROR(kInvalid, "o: has no input_scale", decoded(*per_tensor, "o"));
}

TEST(Fp8Checkpoint, Refusals) {
  TensorList list;
  list.add<std::uint8_t>("m.weight", "F8_E4M3", {1, 2}, {0, 0}).f32("m.weight_scale_inv", {1, 2}, {1, 1});
  const auto refused = [&](const Json& config, ErrorCode code, const char* says) {
    EXPECT_ERROR(code, says, decoded(*list.open(config), "m"));
  };
  refused({{"quant_method", "fp8"}, {"fmt", "e5m2"}}, kUnsupported, "fmt");
  refused({{"quant_method", "fp8"}, {"activation_scheme", "other"}}, kUnsupported, "activation_scheme");
  refused({{"quant_method", "fp8"}, {"weight_block_size", {0, 1}}}, kInvalid, "weight_block_size");
  refused({{"quant_method", "fp8"}}, kInvalid, "m.weight_scale_inv: found f32[1, 2], expected [1, 1]");
  TensorList lone;
  lone.add<std::uint8_t>("m.weight", "F8_E4M3", {1, 2}, {0, 0});
  const auto checkpoint = lone.open({{"quant_method", "fp8"}});
  EXPECT_ERROR(kInvalid, "has no tensor 'm.weight_scale'", decoded(*checkpoint, "m"));
}

}  // namespace
}  // namespace bittern
