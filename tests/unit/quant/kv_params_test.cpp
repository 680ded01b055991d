// Static KV parameters: the formula to the rounding, constant groups, measured against expected error, the file.
#include "quant/kv_params.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/random.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"
#include "tensor/safetensors.h"

namespace bittern::quant {
namespace {

// Two heads of two channels; channel 2 reaches far further than the others.
ChannelStatistics example() {
  ChannelStatistics s(4);
  std::vector<float> rows = {-1.0f, 0.3f, -40.0f, 0.1f, 2.0f, 0.7f, 20.0f, -0.2f};
  s.add(Tensor::of(rows.data(), DType::f32, 2, 4));
  return s;
}

float nearest_float(double value) { return static_cast<float>(value); }

TEST(KvScales, ChannelFormula) {
  const ChannelStatistics s = example();
  const KvScales scales = kv_scales(s, 2, KvGranularity::channel, false);
  for (std::size_t c = 0; c < 4; ++c) {
    EXPECT_EQ(scales.zero[c], nearest_float((double{s.min[c]} + double{s.max[c]}) / 2));
    EXPECT_EQ(scales.scale[c], nearest_float((double{s.max[c]} - double{s.min[c]}) / 255));
  }
  EXPECT_EQ(scales.constant_groups, 0);
}

TEST(KvScales, HeadAndLayerShareTheirRange) {
  const KvScales head = kv_scales(example(), 2, KvGranularity::head, false);
  EXPECT_EQ(head.scale[0], nearest_float(3.0 / 255));
  EXPECT_EQ(head.scale[1], head.scale[0]);
  EXPECT_EQ(head.zero[0], 0.5f);
  EXPECT_EQ(head.scale[2], nearest_float(60.0 / 255));
  EXPECT_EQ(head.zero[3], -10.0f);
  const KvScales layer = kv_scales(example(), 2, KvGranularity::layer, false);
  EXPECT_EQ(layer.scale, std::vector<float>(4, nearest_float(60.0 / 255)));
  EXPECT_EQ(layer.zero, std::vector<float>(4, -10.0f));
}

TEST(KvScales, SymmetricFormula) {
  const KvScales scales = kv_scales(example(), 2, KvGranularity::head, true);
  EXPECT_EQ(scales.scale[0], nearest_float(2.0 / 127));
  EXPECT_EQ(scales.scale[3], nearest_float(40.0 / 127));
  EXPECT_EQ(scales.zero, std::vector<float>(4, 0.0f));
}

TEST(KvScales, ConstantChannelsAreGuardedAndCounted) {
  ChannelStatistics s(3);
  std::vector<float> rows = {5, 0, 1, 5, 0, 2};
  s.add(Tensor::of(rows.data(), DType::f32, 2, 3));
  const KvScales scales = kv_scales(s, 1, KvGranularity::channel, false);
  EXPECT_EQ(scales.constant_groups, 2);
  EXPECT_EQ(scales.scale[0], nearest_float(5.0 / 127));
  EXPECT_EQ(scales.zero[0], 5.0f);
  EXPECT_EQ(scales.scale[1], nearest_float(1.0 / 127));
  const KvScales constant = {{scales.scale[0], scales.scale[1]}, {scales.zero[0], scales.zero[1]}, 2};
  EXPECT_EQ(kv_rounding_error(std::vector<float>{5, 0}, constant), 0);
}

TEST(KvScales, RefusesRangesWithoutEnd) {
  ChannelStatistics s(1);
  float value = std::numeric_limits<float>::infinity();
  s.add(Tensor::of(&value, DType::f32, 1, 1));
  EXPECT_ERROR(ErrorCode::invalid_argument, "not finite", kv_scales(s, 1, KvGranularity::layer, false));
}

std::vector<float> random_rows(int tokens, int channels) {
  Random random(5);
  std::vector<float> rows;
  for (int i = 0; i < tokens * channels; ++i) rows.push_back(static_cast<float>(random.next_normal()) + 0.3f);
  return rows;
}

TEST(KvErrors, EndsOfTheRangeAreStoredWithinHalfAStep) {
  const ChannelStatistics s = example();
  for (const bool symmetric : {false, true}) {
    const KvScales scales = kv_scales(s, 2, KvGranularity::channel, symmetric);
    for (std::size_t c = 0; c < 4; ++c) {
      for (const float value : {s.min[c], s.max[c]}) {
        KvScales one;
        one.scale = {scales.scale[c]}, one.zero = {scales.zero[c]};
        const double error = std::sqrt(kv_rounding_error(std::span(&value, 1), one)) * std::abs(value);
        EXPECT_LE(error, scales.scale[c] * 0.5001);
      }
    }
  }
}

TEST(KvErrors, ExpectedIsNearMeasured) {
  std::vector<float> rows = random_rows(2000, 8);
  ChannelStatistics s(8);
  s.add(Tensor::of(rows.data(), DType::f32, 2000, 8));
  for (const KvGranularity granularity : kKvGranularities) {
    for (const bool symmetric : {false, true}) {
      const KvScales scales = kv_scales(s, 2, granularity, symmetric);
      const double measured = kv_rounding_error(rows, scales);
      EXPECT_GT(measured, 0);
      EXPECT_NEAR(expected_kv_error(s, scales) / measured, 1, 0.03);
    }
  }
}

Statistics with_outlier(bool kv = true) {
  Statistics result;
  result.provenance = {"tiny", "f00d", "data", "sha", "1.0", 1, 2000, 2000, "0"};
  result.kv_heads = 2;
  result.head_dim = 4;
  for (int layer = 0; layer < 3; ++layer) {
    std::vector<float> rows = random_rows(2000, 8);
    if (layer == 1) {  // One channel 100 times as wide, in energy still a small part of many rows.
      for (std::size_t i = 0; i < rows.size(); i += 8) rows[i] = i % 800 == 0 ? rows[i] * 100 : rows[i];
    }
    LayerStatistics& to = result.layers.emplace_back();
    to.inputs["x"] = ChannelStatistics(1);
    float value = 1;
    to.inputs["x"].add(Tensor::of(&value, DType::f32, 1, 1));
    if (!kv) continue;
    to.k = to.v = ChannelStatistics(8);
    to.k.add(Tensor::of(rows.data(), DType::f32, 2000, 8));
    rows = random_rows(2000, 8);
    to.v.add(Tensor::of(rows.data(), DType::f32, 2000, 8));
  }
  return result;
}

TEST(KvReport, NamesTheWorstLayerAndTheGranularity) {
  const KvReport report = kv_report(with_outlier(), false);
  EXPECT_FALSE(report.measured);
  for (const KvGranularity g : kKvGranularities) EXPECT_EQ(report.worst_k_layer[static_cast<int>(g)], 1);
  EXPECT_GT(report.worst_k[0], 5e-4);
  EXPECT_GT(report.worst_k[0], 1.5 * report.worst_k[1]);
  EXPECT_EQ(report.recommended, KvGranularity::channel);
  EXPECT_EQ(report.worst_first.front(), 1);
  EXPECT_EQ(report.worst_first.size(), 3u);
  EXPECT_NE(report.reason.find("(layer 1)"), std::string::npos) << report.reason;
  EXPECT_NE(report.reason.find("rather use int8"), std::string::npos) << "the outlier's channel: " << report.reason;
  Statistics tame = with_outlier();
  tame.layers.erase(tame.layers.begin() + 1);
  EXPECT_EQ(kv_report(tame, false).recommended, KvGranularity::layer);
  EXPECT_EQ(kv_report(tame, false).reason.find("rather use int8"), std::string::npos);
  EXPECT_ERROR(ErrorCode::invalid_argument, "no ranges of K and V", kv_report(with_outlier(false), false));
}

TEST(KvParams, FileHoldsExpandedScales) {
  testing::TempDir dir;
  const Statistics statistics = with_outlier();
  const auto path = dir.path() / "kv_params.safetensors";
  write_kv_params(statistics, KvGranularity::head, false, path);
  const SafetensorsFile file =
      read_safetensors(ModelFiles::from_directory(dir.path())->require("kv_params.safetensors"));
  EXPECT_EQ(file.metadata.at("granularity"), "head");
  EXPECT_EQ(file.metadata.at("symmetric"), "false");
  EXPECT_EQ(file.metadata.at("model_fingerprint"), "f00d");
  EXPECT_EQ(file.entries.size(), 12u);
  const KvScales expected = kv_scales(statistics.layers[1].k, 2, KvGranularity::head, false);
  bool seen = false;
  for (const SafetensorsEntry& entry : file.entries) {
    EXPECT_EQ(entry.shape, (std::vector<std::int64_t>{2, 4}));
    if (entry.name != "layers.1.k_scale") continue;
    seen = true;
    const auto* values = reinterpret_cast<const float*>(entry.data.data());
    EXPECT_EQ(std::vector<float>(values, values + 8), expected.scale);
  }
  EXPECT_TRUE(seen);
}

TEST(KvParams, NamesOfGranularities) {
  EXPECT_EQ(parse_kv_granularity("head"), KvGranularity::head);
  EXPECT_ERROR(ErrorCode::invalid_argument, "chanel", parse_kv_granularity("chanel"));
}

}  // namespace
}  // namespace bittern::quant
