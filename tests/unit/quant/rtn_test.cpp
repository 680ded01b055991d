// Round to nearest against hand-made values, its definition written out again, and vectors recorded from numpy.
#include "quant/rtn.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <random>

#include "base/json.h"
#include "quant/scheme.h"
#include "quant/weight_error.h"
#include "support/expect_error.h"
#include "tensor/convert.h"

namespace bittern::quant {
namespace {

Weight make_weight(std::int64_t out, std::int64_t in, const std::vector<float>& values, const std::string& name = "w") {
  Weight weight = Weight::allocate(name, Format::dense(DType::f32), out, in);
  std::copy(values.begin(), values.end(), weight.data.as<float>());
  return weight;
}

std::vector<float> random_values(std::int64_t n, unsigned seed, float scale = 0.05f) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> values(static_cast<std::size_t>(n));
  for (float& v : values) v = normal(generator);
  return values;
}

int code(const Weight& w, std::int64_t row, std::int64_t i) {
  const std::uint8_t byte = w.data.row<std::uint8_t>(row)[i / 2];
  return i % 2 == 0 ? byte & 15 : byte >> 4;
}

ThreadPool& pool() {
  static ThreadPool threads(2);
  return threads;
}

TEST(Rtn, MapsAGroupToItsSixteenIntegers) {
  // lo = -3, hi = 12: s = 1 and z = 3 exactly.
  const Weight q = rtn_int4(make_weight(1, 4, {-3.0f, 0.0f, 12.0f, 4.4f}), 4, DType::f32, pool());
  EXPECT_EQ(q.scales.as<float>()[0], 1.0f);
  EXPECT_EQ(q.zeros.as<std::uint8_t>()[0], 3);
  EXPECT_EQ(code(q, 0, 0), 0);
  EXPECT_EQ(code(q, 0, 1), 3);
  EXPECT_EQ(code(q, 0, 2), 15);
  EXPECT_EQ(code(q, 0, 3), 7);
}

TEST(Rtn, TiesRoundToEven) {
  const Weight q = rtn_int4(make_weight(1, 4, {0.5f, 1.5f, 2.5f, 15.0f}), 4, DType::f32, pool());
  EXPECT_EQ(code(q, 0, 0), 0);
  EXPECT_EQ(code(q, 0, 1), 2);
  EXPECT_EQ(code(q, 0, 2), 2);
}

TEST(Rtn, TheRangeIncludesZeroOnOneSidedGroups) {
  const Weight positive = rtn_int4(make_weight(1, 2, {15.0f, 30.0f}), 2, DType::f32, pool());
  EXPECT_EQ(positive.zeros.as<std::uint8_t>()[0], 0);
  EXPECT_EQ(to_f32(positive).data.as<float>()[1], 30.0f);  // not clipped
  const Weight negative = rtn_int4(make_weight(1, 2, {-15.0f, -30.0f}), 2, DType::f32, pool());
  EXPECT_EQ(negative.zeros.as<std::uint8_t>()[0], 15);
  EXPECT_EQ(to_f32(negative).data.as<float>()[1], -30.0f);
}

TEST(Rtn, ZerosStayExactlyZero) {
  const Weight q = rtn_int4(make_weight(1, 64, std::vector<float>(64, 0.0f)), 32, DType::f16, pool());
  for (int i = 0; i < 64; ++i) EXPECT_EQ(to_f32(q).data.as<float>()[i], 0.0f);
  EXPECT_GT(q.scales.as<float>()[0], 0.0f);
}

TEST(Rtn, FollowsTheDefinitionForAnyGroupSize) {
  constexpr std::int64_t kOut = 5, kIn = 172;
  const auto values = random_values(kOut * kIn, 1);
  for (const std::int64_t group : {1, 4, 32, 43, 64, 128, -1}) {
    for (const DType dtype : {DType::f16, DType::f32}) {
      const Weight q = rtn_int4(make_weight(kOut, kIn, values), group, dtype, pool());
      const std::int64_t size = group == -1 ? kIn : group;
      ASSERT_EQ(q.groups(), (kIn + size - 1) / size);
      for (std::int64_t r = 0; r < kOut; ++r) {
        for (std::int64_t g = 0; g < q.groups(); ++g) {
          float lo = 0, hi = 0;
          for (std::int64_t i = g * size; i < std::min(kIn, (g + 1) * size); ++i) {
            lo = std::fmin(lo, values[static_cast<std::size_t>(r * kIn + i)]);
            hi = std::fmax(hi, values[static_cast<std::size_t>(r * kIn + i)]);
          }
          float s = std::fmax(hi - lo, 1e-5f) / 15;
          if (dtype == DType::f16) {
            std::uint16_t bits = 0;
            convert_from_f32(&s, DType::f16, 1, &bits);
            convert_to_f32(&bits, DType::f16, 1, &s);
          }
          const float z = std::fmin(std::fmax(std::nearbyint(-lo / s), 0.0f), 15.0f);
          ASSERT_EQ(q.scales.row<float>(r)[g], s);
          ASSERT_EQ(q.zeros.row<std::uint8_t>(r)[g], static_cast<int>(z));
          for (std::int64_t i = g * size; i < std::min(kIn, (g + 1) * size); ++i) {
            const float v = std::nearbyint(values[static_cast<std::size_t>(r * kIn + i)] / s) + z;
            ASSERT_EQ(code(q, r, i), static_cast<int>(std::fmin(std::fmax(v, 0.0f), 15.0f)))
                << group << " " << r << " " << i;
          }
        }
      }
    }
  }
}

TEST(Rtn, IsOffByHalfAStepAtMost) {
  const auto values = random_values(64 * 256, 2);
  const Weight original = make_weight(64, 256, values);
  const Weight q = rtn_int4(original, 32, DType::f32, pool());
  const Weight decoded = to_f32(q);
  for (std::int64_t r = 0; r < 64; ++r) {
    for (std::int64_t i = 0; i < 256; ++i) {
      const float step = q.scales.row<float>(r)[i / 32];
      EXPECT_LE(std::abs(decoded.data.row<float>(r)[i] - original.data.row<float>(r)[i]), step * 0.5001f);
    }
  }
}

TEST(Rtn, DoesNotDependOnTheThreads) {
  const auto values = random_values(37 * 96, 3);
  ThreadPool one(1), four(4);
  const Weight a = rtn_int4(make_weight(37, 96, values), 64, DType::f16, one);
  const Weight b = rtn_int4(make_weight(37, 96, values), 64, DType::f16, four);
  EXPECT_EQ(std::memcmp(a.data.data, b.data.data, static_cast<std::size_t>(a.data.size())), 0);
  EXPECT_EQ(weight_error(make_weight(37, 96, values), a, one).difference,
            weight_error(make_weight(37, 96, values), b, four).difference);
}

TEST(Rtn, RefusesWeightsThatAreNotFiniteByName) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    auto values = random_values(4 * 64, 4);
    values[2 * 64 + 40] = bad;
    const Weight weight = make_weight(4, 64, values, "model.layers.3.mlp.up_proj");
    EXPECT_ERROR(ErrorCode::invalid_checkpoint, "model.layers.3.mlp.up_proj: output 2, group 1",
                 rtn_int4(weight, 32, DType::f16, pool()));
  }
}

TEST(Rtn, RefusesScalesThatOverflowF16ButTakesThemInF32) {
  const Weight weight = make_weight(1, 32, std::vector<float>(32, 1e6f));  // 1e6 / 15 > 65504
  EXPECT_EQ(rtn_int4(weight, 32, DType::f32, pool()).scales.as<float>()[0], 1e6f / 15);
  EXPECT_ERROR(ErrorCode::invalid_checkpoint, "scale overflows", rtn_int4(weight, 32, DType::f16, pool()));
}

TEST(WeightError, MatchesItsFormulas) {
  const Weight original = make_weight(2, 2, {1.0f, 2.0f, -3.0f, 4.0f});
  const Weight other = make_weight(2, 2, {1.0f, 2.5f, -3.0f, 3.0f});
  const WeightError error = weight_error(original, other, pool());
  EXPECT_DOUBLE_EQ(error.nmse(), 1.25 / 30);
  EXPECT_DOUBLE_EQ(error.cosine(), (1 + 5 + 9 + 12) / std::sqrt(30 * (1 + 6.25 + 9 + 9)));
  EXPECT_DOUBLE_EQ(error.max_abs, 1.0);
}

TEST(WeightError, OfZerosIsDefined) {
  const Weight zero = make_weight(1, 2, {0, 0}), one = make_weight(1, 2, {1, 0});
  EXPECT_EQ(weight_error(zero, zero, pool()).nmse(), 0.0);
  EXPECT_EQ(weight_error(zero, zero, pool()).cosine(), 1.0);
  EXPECT_EQ(weight_error(one, zero, pool()).nmse(), 1.0);
  EXPECT_EQ(weight_error(one, zero, pool()).cosine(), 0.0);
}

// --- recorded by tools/awq_reference.py: numpy's rounding, packed by the bit order AutoAWQ documents ---

template <class T>
std::vector<T> hex_array(const Json& text) {
  const std::string hex = text.get<std::string>();
  constexpr std::size_t kDigits = sizeof(T) * 2;
  std::vector<T> values;
  for (std::size_t i = 0; i < hex.size(); i += kDigits)
    values.push_back(static_cast<T>(std::stoul(hex.substr(i, kDigits), nullptr, 16)));
  return values;
}

template <class T>
std::vector<T> as_vector(std::span<const std::byte> bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

TEST(RtnGolden, EqualsNumpyInEveryWordOfTheAwqLayout) {
  const Json golden = read_json_file(std::filesystem::path(BITTERN_SOURCE_DIR) / "tests/golden/quant_rtn.json");
  ASSERT_GE(golden["cases"].size(), 4u);
  for (const Json& c : golden["cases"]) {
    SCOPED_TRACE(c["name"].get<std::string>());
    Weight weight = Weight::allocate("w", Format::dense(DType::f32), c["out"], c["in"]);
    const auto bits = hex_array<std::uint16_t>(c["bf16"]);
    ASSERT_EQ(std::ssize(bits), weight.data.size());
    convert_to_f32(bits.data(), DType::bf16, std::ssize(bits), weight.data.as<float>());
    const Weight quantized = rtn_int4(weight, c["group_size"], DType::f16, pool());
    std::map<std::string, std::vector<std::byte>> tensors;
    find_scheme("w4a16").pack(quantized, [&](std::string_view name, std::span<const std::byte> data) {
      tensors[std::string(name)].assign(data.begin(), data.end());
    });
    EXPECT_EQ(as_vector<std::uint32_t>(tensors["w.qweight"]), hex_array<std::uint32_t>(c["qweight"]));
    EXPECT_EQ(as_vector<std::uint32_t>(tensors["w.qzeros"]), hex_array<std::uint32_t>(c["qzeros"]));
    EXPECT_EQ(as_vector<std::uint16_t>(tensors["w.scales"]), hex_array<std::uint16_t>(c["scales"]));
    EXPECT_NEAR(weight_error(weight, quantized, pool()).nmse(), c["nmse"].get<double>(), 1e-9);
  }
}

}  // namespace
}  // namespace bittern::quant
