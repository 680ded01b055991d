// The AWQ GEMM layout: against a word made by hand, there and back, and as a checkpoint.
#include "tensor/awq.h"

#include <gtest/gtest.h>

#include <random>

#include "base/half.h"
#include "support/expect_error.h"
#include "support/memory_files.h"
#include "tensor/awq_checkpoint.h"
#include "tensor/checkpoint.h"

namespace bittern {
namespace {

Weight random_int4(std::int64_t out, std::int64_t in, std::int64_t group) {
  std::mt19937 random(static_cast<unsigned>(out * 1000 + in + group));
  Weight w = Weight::allocate("w", Format::int4(group), out, in);
  for (std::int64_t n = 0; n < out; ++n) {
    for (std::int64_t i = 0; i < in; ++i)
      w.data.row<std::uint8_t>(n)[i / 2] |= static_cast<std::uint8_t>((random() % 16) << (4 * (i % 2)));
    for (std::int64_t g = 0; g < w.groups(); ++g) {
      w.scales.row<float>(n)[g] = to_f32(to_f16(static_cast<float>(random() % 1000 + 1) * 1e-4f));
      w.zeros.row<std::uint8_t>(n)[g] = static_cast<std::uint8_t>(random() % 16);
    }
  }
  return w;
}

int code(const Weight& w, std::int64_t n, std::int64_t i) {
  return (w.data.row<std::uint8_t>(n)[i / 2] >> (4 * (i % 2))) & 15;
}

TEST(AwqTest, KnownWord) {
  // One word of columns 0..7 with values 1..8: nibbles, lowest first, hold columns 0 2 4 6 1 3 5 7.
  std::uint32_t qweight[] = {0x86427531};
  std::uint32_t qzeros[] = {0xfdb9eca8};
  std::uint16_t scales[8];
  for (int i = 0; i < 8; ++i) scales[i] = to_f16(static_cast<float>(i + 1)).bits;
  AwqTensors tensors;
  tensors.qweight = Tensor::of(qweight, DType::i32, 1, 1);
  tensors.qzeros = Tensor::of(qzeros, DType::i32, 1, 1);
  tensors.scales = Tensor::of(scales, DType::f16, 1, 8);
  const Weight w = unpack_awq("m", tensors, 1);
  ASSERT_EQ(std::pair(w.out, w.in), (std::pair<std::int64_t, std::int64_t>(8, 1)));
  const Weight f = to_f32(w);
  for (std::int64_t n = 0; n < 8; ++n) {
    EXPECT_EQ(code(w, n, 0), n + 1);
    EXPECT_EQ(w.zeros.row<std::uint8_t>(n)[0], n + 8);
    EXPECT_EQ(f.data.row<float>(n)[0], -7.0f * static_cast<float>(n + 1));
  }
  const AwqTensors packed = pack_awq(w);
  EXPECT_EQ(packed.qweight.as<std::uint32_t>()[0], 0x86427531u);
  EXPECT_EQ(packed.qzeros.as<std::uint32_t>()[0], 0xfdb9eca8u);
}

void expect_equal(const Weight& a, const Weight& b) {
  ASSERT_EQ(a.format, b.format);
  ASSERT_EQ(a.out, b.out);
  ASSERT_EQ(a.in, b.in);
  EXPECT_EQ(std::memcmp(a.data.data, b.data.data, static_cast<std::size_t>(a.data.size())), 0);
  EXPECT_EQ(std::memcmp(a.zeros.data, b.zeros.data, static_cast<std::size_t>(a.zeros.size())), 0);
  EXPECT_EQ(std::memcmp(a.scales.data, b.scales.data, static_cast<std::size_t>(a.scales.size()) * 4), 0);
}

TEST(AwqTest, ThereAndBack) {
  struct Shape {
    std::int64_t out, in, group;
  };
  for (Shape s : {Shape{8, 32, 32}, {136, 64, 32}, {24, 256, 128}, {16, 96, 96}, {8, 7, 7}, {264, 128, 64}}) {
    const Weight w = random_int4(s.out, s.in, s.group);
    expect_equal(unpack_awq("w", pack_awq(w), s.group), w);
  }
}

TEST(AwqTest, WhatTheLayoutCannotHoldIsRefused) {
  EXPECT_EQ(awq_refusal(16, 64, 32), "");
  EXPECT_ERROR(ErrorCode::unsupported, "w: the AWQ layout cannot hold it: its 12 outputs",
               pack_awq(random_int4(12, 64, 32)));
  EXPECT_ERROR(ErrorCode::unsupported, "its 40 inputs are not a multiple of the group size 32",
               pack_awq(random_int4(8, 40, 32)));
  for (float scale : {1e6f, 1e-9f, std::numeric_limits<float>::quiet_NaN()}) {
    Weight w = random_int4(8, 32, 32);
    w.scales.row<float>(3)[0] = scale;
    EXPECT_ERROR(ErrorCode::unsupported, "of output 3 does not fit f16", pack_awq(w));
  }
}

TEST(AwqTest, DisagreeingTensorsAreRefused) {
  const Weight w = random_int4(16, 64, 32);
  const auto refused = [&](auto change, std::int64_t group, const char* says) {
    AwqTensors tensors = pack_awq(w);
    change(tensors);
    EXPECT_ERROR(ErrorCode::invalid_checkpoint, says, unpack_awq("m", tensors, group));
  };
  refused([](AwqTensors&) {}, 16, "m.qzeros: found i32[2, 2], expected [4, 2] of i32");
  refused([](AwqTensors& t) { t.scales = t.scales.slice(0, 1); }, 32, "m.scales: found f16[1, 16]");
  refused([](AwqTensors& t) { t.qweight.dtype = DType::f32; }, 32, "m.qweight: found f32[64, 2]");
  refused([](AwqTensors& t) { t.qweight.rank = 1; }, 32, "m.qweight");
  refused([](AwqTensors& t) { t.scales.row<std::uint16_t>(1)[5] = 0x7c00; }, 32,
          "the scale of group 1, output 5 is not finite");
}

// --- as a checkpoint ---

std::string text_of(const Tensor& t) {
  return {t.as<char>(), static_cast<std::size_t>(t.size()) * dtype_size(t.dtype)};
}

// A file with linear "q" in AWQ form, "d" dense, and "both" in both forms.
std::string awq_file(const Weight& w) {
  const AwqTensors t = pack_awq(w);
  std::string data;
  Json header = Json::object();
  const auto put = [&](const std::string& name, const char* dtype, std::vector<std::int64_t> shape,
                       const std::string& bytes) {
    header[name] = {{"dtype", dtype}, {"shape", shape}, {"data_offsets", {data.size(), data.size() + bytes.size()}}};
    data += bytes;
  };
  for (const std::string module : {"q", "both"}) {
    put(module + ".qweight", "I32", {t.qweight.rows(), t.qweight.cols()}, text_of(t.qweight));
    put(module + ".qzeros", "I32", {t.qzeros.rows(), t.qzeros.cols()}, text_of(t.qzeros));
    put(module + ".scales", "F16", {t.scales.rows(), t.scales.cols()}, text_of(t.scales));
  }
  put("both.weight", "F32", {1, 1}, "abcd");
  put("d.weight", "F32", {1, 1}, "abcd");
  return testing::raw_safetensors(header.dump(), data);
}

std::unique_ptr<Checkpoint> open(const Weight& w, Json config) {
  config["quant_method"] = "awq";
  return open_checkpoint(testing::memory_files({{"model.safetensors", awq_file(w)}}), config);
}

TEST(AwqCheckpointTest, QuantizedAndDenseLinears) {
  const Weight w = random_int4(16, 64, 32);
  const auto checkpoint = open(w, {{"bits", 4}, {"group_size", 32}, {"version", "gemm"}, {"zero_point", true}});
  std::vector<std::string> used;
  expect_equal(checkpoint->linear("q", used), w);
  EXPECT_EQ(used, (std::vector<std::string>{"q.qweight", "q.qzeros", "q.scales"}));
  used.clear();
  EXPECT_EQ(checkpoint->linear("d", used).format, Format::dense(DType::f32));
  EXPECT_EQ(used, (std::vector<std::string>{"d.weight"}));
  EXPECT_TRUE(checkpoint->has_linear("q"));
  EXPECT_TRUE(checkpoint->has_linear("d"));
  EXPECT_FALSE(checkpoint->has_linear("nothing"));
}

TEST(AwqCheckpointTest, ExceptionsDecideWhereBothFormsAreStored) {
  const Weight w = random_int4(16, 64, 32);
  std::vector<std::string> used;
  EXPECT_EQ(open(w, {{"group_size", 32}})->linear("both", used).format, Format::int4(32));
  const auto excepted = open(w, {{"group_size", 32}, {"modules_to_not_convert", {"lm_head", "bot"}}});
  EXPECT_EQ(excepted->linear("both", used).format, Format::dense(DType::f32));
  EXPECT_EQ(excepted->linear("q", used).format, Format::int4(32));
}

TEST(AwqCheckpointTest, PerChannelGroups) {
  const Weight w = random_int4(16, 48, 48);
  std::vector<std::string> used;
  expect_equal(open(w, {{"group_size", -1}, {"version", "GEMM"}})->linear("q", used), w);
}

TEST(AwqCheckpointTest, OldSpellingsAndDefaults) {
  EXPECT_EQ(parse_awq_config({{"w_bit", 4}, {"q_group_size", 64}, {"modules_to_not_convert", nullptr}}).group_size, 64);
  EXPECT_EQ(parse_awq_config(Json::object()).group_size, 128);
}

TEST(AwqCheckpointTest, OtherVariantsAreNamed) {
  const auto refused = [](const Json& config, ErrorCode code, const char* says) {
    EXPECT_ERROR(code, says, parse_awq_config(config));
  };
  refused({{"version", "gemv"}}, ErrorCode::unsupported, "version");
  refused({{"bits", 8}}, ErrorCode::unsupported, "bits");
  refused({{"zero_point", false}}, ErrorCode::unsupported, "zero_point");
  refused({{"group_size", 0}}, ErrorCode::unsupported, "group_size");
  refused({{"group_size", -2}}, ErrorCode::unsupported, "group_size");
  refused({{"group_size", INT64_MAX}}, ErrorCode::unsupported, "group_size");
  refused({{"group_size", UINT64_MAX}}, ErrorCode::unsupported, "group_size");
  refused({{"group_size", "128"}}, ErrorCode::invalid_checkpoint, "group_size must be an integer");
  refused({{"bits", "4"}}, ErrorCode::invalid_checkpoint, "bits must be an integer");
  refused({{"version", 1}}, ErrorCode::invalid_checkpoint, "version must be a string");
  refused({{"zero_point", 1}}, ErrorCode::invalid_checkpoint, "zero_point must be true or false");
  refused({{"modules_to_not_convert", "lm_head"}}, ErrorCode::invalid_checkpoint, "a list of names");
  refused({{"modules_to_not_convert", {1}}}, ErrorCode::invalid_checkpoint, "a list of names");
}

}  // namespace
}  // namespace bittern
