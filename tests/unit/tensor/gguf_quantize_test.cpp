// Blocks that Bittern writes: byte for byte ggml's where it has one right answer, and small errors where it does not.
#include "tensor/gguf_quantize.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>

#include "support/expect_error.h"
#include "support/shared_data.h"

namespace bittern {
namespace {

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<float> floats_of(const std::string& bytes) {
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

double error_of(GgufType type, const std::vector<float>& values, std::span<const std::byte> bytes) {
  const auto cols = static_cast<std::int64_t>(values.size());
  const Weight floats = to_f32(decode_gguf_blocks("w", type, 1, cols, bytes));
  double error = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double off = static_cast<double>(floats.data.as<float>()[i]) - values[i];
    error += off * off;
  }
  return error;
}

class QuantGolden : public ::testing::TestWithParam<std::pair<const char*, GgufType>> {};

TEST_P(QuantGolden, BytesEqualGgml) {
  const std::string base = std::string("gguf/quant_goldens/") + GetParam().first + "_64_noim_";
  SKIP_WITHOUT_SHARED_DATA(base + "input.bin");
  const auto values = floats_of(read_file(testing::shared_data(base + "input.bin")));
  const std::string expected = read_file(testing::shared_data(base + "expected.bin"));
  ASSERT_FALSE(expected.empty());
  const auto bytes = gguf_encode(GetParam().second, values);
  ASSERT_EQ(bytes.size(), expected.size());
  EXPECT_EQ(std::memcmp(bytes.data(), expected.data(), bytes.size()), 0);
}

INSTANTIATE_TEST_SUITE_P(Gguf, QuantGolden,
                         ::testing::Values(std::pair{"q4_0", GgufType::q4_0}, std::pair{"q8_0", GgufType::q8_0}),
                         [](const auto& each) { return each.param.first; });

TEST(GgufQuantize, Q4KIsAsGoodAsGgmls) {
  const std::string base = "gguf/quant_goldens/q4_k_512_noim_";
  SKIP_WITHOUT_SHARED_DATA(base + "input.bin");
  const auto values = floats_of(read_file(testing::shared_data(base + "input.bin")));
  const std::string theirs = read_file(testing::shared_data(base + "expected.bin"));
  const double reference = error_of(GgufType::q4_k, values, std::as_bytes(std::span(theirs)));
  const double ours = error_of(GgufType::q4_k, values, gguf_encode(GgufType::q4_k, values));
  EXPECT_GT(reference, 0);
  EXPECT_LE(ours, reference);
}

std::vector<float> normal_values(std::size_t count, float mean, float deviation) {
  std::mt19937 random(11);
  std::normal_distribution<float> normal(mean, deviation);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

// Error of the range [min, max] of each 32 values in 15 steps, with scale and minimum not rounded at all.
double plain_error(const std::vector<float>& values) {
  double error = 0;
  for (std::size_t at = 0; at < values.size(); at += 32) {
    const auto [low, high] =
        std::minmax_element(values.begin() + static_cast<long>(at), values.begin() + static_cast<long>(at) + 32);
    const float scale = (*high - *low) / 15;
    for (std::size_t j = at; j < at + 32; ++j) {
      const float q = std::round((values[j] - *low) / scale);
      error += std::pow(static_cast<double>(q * scale + *low) - values[j], 2);
    }
  }
  return error;
}

TEST(GgufQuantize, Q4KBeatsPlainRanges) {
  const auto values = normal_values(256 * 64, 0.0F, 0.02F);
  EXPECT_LT(error_of(GgufType::q4_k, values, gguf_encode(GgufType::q4_k, values)), plain_error(values));
}

TEST(GgufQuantize, EveryTypeComesBackWithinItsStep) {
  const std::vector<std::pair<GgufType, double>> bounds = {{GgufType::f32, 0},       {GgufType::f16, 1e-7},
                                                           {GgufType::bf16, 1e-5},   {GgufType::q8_0, 1e-4},
                                                           {GgufType::q4_0, 1.5e-2}, {GgufType::q4_k, 8e-3}};
  const auto values = normal_values(1024, 0.01F, 1.0F);
  double energy = 0;
  for (const float value : values) energy += static_cast<double>(value) * value;
  for (const auto& [type, bound] : bounds) {
    EXPECT_LE(error_of(type, values, gguf_encode(type, values)) / energy, bound)
        << gguf_type_name(static_cast<std::uint32_t>(type));
  }
}

TEST(GgufQuantize, EdgesAreExact) {
  for (const GgufType type : {GgufType::q4_0, GgufType::q8_0, GgufType::q4_k}) {
    const std::vector<float> zeros(256, 0.0F);
    EXPECT_EQ(error_of(type, zeros, gguf_encode(type, zeros)), 0) << static_cast<int>(type);
  }
  const std::vector<float> same(256, 0.5F), below(256, -0.5F);
  EXPECT_LT(error_of(GgufType::q4_k, same, gguf_encode(GgufType::q4_k, same)), 1e-4);
  EXPECT_LT(error_of(GgufType::q4_k, below, gguf_encode(GgufType::q4_k, below)), 1e-4);
  std::vector<float> bad(256, 1.0F);
  bad[3] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_ERROR(ErrorCode::invalid_argument, "not finite", gguf_encode(GgufType::q4_k, bad));
  EXPECT_ERROR(ErrorCode::unsupported, "Q6_K", gguf_encode(GgufType::q6_k, bad));
}

TEST(GgufQuantize, ValuesNearTheLargestKeepFiniteScales) {
  for (const GgufType type : {GgufType::q4_0, GgufType::q8_0, GgufType::q4_k}) {
    std::vector<float> values(256);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = (i % 3 == 0 ? 1.0F : -1.0F) * kGgufLargest;
    double energy = 0;
    for (const float value : values) energy += static_cast<double>(value) * value;
    EXPECT_LT(error_of(type, values, gguf_encode(type, values)), 0.01 * energy) << static_cast<int>(type);
    values[7] = std::nextafter(kGgufLargest, std::numeric_limits<float>::infinity());
    EXPECT_ERROR(ErrorCode::invalid_argument, "too large", gguf_encode(type, values));
  }
}

TEST(GgufQuantize, ValuesTooSmallForAScaleBecomeZero) {
  for (const GgufType type : {GgufType::q4_0, GgufType::q8_0, GgufType::q4_k}) {
    std::vector<float> values(256, 1e-39F);
    values[9] = -1e-38F;
    const Weight floats = to_f32(decode_gguf_blocks("w", type, 1, 256, gguf_encode(type, values)));
    for (int i = 0; i < 256; ++i) ASSERT_EQ(floats.data.as<float>()[i], 0.0F) << static_cast<int>(type) << ", " << i;
  }
}

// What ggml wrote for known values, read here: half a step of the largest range at most, and for importance matrices,
// which move errors around, two steps.
struct Reading {
  const char* name;
  GgufType type;
  int width;
  double bound;  // NMSE of uniform values in [-1, 1]
};

class ReadGolden : public ::testing::TestWithParam<Reading> {};

TEST_P(ReadGolden, BlocksOfGgmlDecodeToWhatWentIn) {
  const Reading& each = GetParam();
  for (const char* variant : {"noim", "im"}) {
    const std::string base =
        "gguf/quant_goldens/" + std::string(each.name) + "_" + std::to_string(each.width) + "_" + variant + "_";
    SKIP_WITHOUT_SHARED_DATA(base + "input.bin");
    const auto values = floats_of(read_file(testing::shared_data(base + "input.bin")));
    const std::string bytes = read_file(testing::shared_data(base + "expected.bin"));
    ASSERT_EQ(static_cast<std::int64_t>(bytes.size()), gguf_bytes(each.type, static_cast<std::int64_t>(values.size())));
    double energy = 0;
    for (const float value : values) energy += static_cast<double>(value) * value;
    const double error = error_of(each.type, values, std::as_bytes(std::span(bytes))) / energy;
    EXPECT_LE(error, each.bound) << variant;
    EXPECT_GT(error, each.bound / 10) << variant << ": better than its bits allow";
  }
}

INSTANTIATE_TEST_SUITE_P(
    Gguf, ReadGolden,
    ::testing::Values(Reading{"q4_0", GgufType::q4_0, 64, 0.006}, Reading{"q4_1", GgufType::q4_1, 64, 0.005},
                      Reading{"q5_0", GgufType::q5_0, 64, 0.0015}, Reading{"q5_1", GgufType::q5_1, 64, 0.0012},
                      Reading{"q8_0", GgufType::q8_0, 64, 2e-5}, Reading{"q4_k", GgufType::q4_k, 512, 0.005},
                      Reading{"q5_k", GgufType::q5_k, 512, 0.0012}, Reading{"q6_k", GgufType::q6_k, 512, 0.0004},
                      Reading{"iq4_nl", GgufType::iq4_nl, 64, 0.009}),
    [](const auto& each) { return each.param.name; });

}  // namespace
}  // namespace bittern
