// Statistics: against sums written out, merging against one pass, the file and its refusals.
#include "quant/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>

#include "support/expect_error.h"
#include "support/temp_dir.h"
#include "tensor/safetensors.h"

namespace bittern::quant {
namespace {

std::vector<float> rows_of(int tokens, int channels, int seed) {
  std::vector<float> rows;
  for (int i = 0; i < tokens * channels; ++i) {
    rows.push_back(std::sin(static_cast<float>(seed + i * 37 % 101)) * static_cast<float>(1 + i % channels));
  }
  return rows;
}

ChannelStatistics channels_of(const std::vector<float>& rows, int channels) {
  ChannelStatistics result(channels);
  result.add(Tensor::of(const_cast<float*>(rows.data()), DType::f32, std::ssize(rows) / channels, channels));
  return result;
}

Statistics statistics_of(int seed, bool kv = true) {
  Statistics result;
  result.provenance = {"tiny", "f00d", "data" + std::to_string(seed), "sha", "1.0", 2, 10, 5, std::to_string(seed)};
  result.kv_heads = 2;
  result.head_dim = 3;
  for (int layer = 0; layer < 2; ++layer) {
    LayerStatistics& to = result.layers.emplace_back();
    to.inputs["model.layers." + std::to_string(layer) + ".up"] = channels_of(rows_of(10, 4, seed + layer), 4);
    if (!kv) continue;
    to.k = channels_of(rows_of(10, 6, seed + 7), 6);
    to.v = channels_of(rows_of(10, 6, seed + 8), 6);
    to.measured = true;
    to.k_error = {1, 2, 3, 4, 5, 6};
  }
  return result;
}

TEST(ChannelStatistics, CountsWhatItSees) {
  const ChannelStatistics s = channels_of({1, -2, 0.5f, 4, -3, 0.25f}, 3);
  EXPECT_EQ(s.tokens, 2);
  EXPECT_EQ(s.max, (std::vector<float>{4, -2, 0.5f}));
  EXPECT_EQ(s.min, (std::vector<float>{1, -3, 0.25f}));
  EXPECT_EQ(s.absmax, (std::vector<float>{4, 3, 0.5f}));
  EXPECT_EQ(s.mean(), (std::vector<float>{2.5f, -2.5f, 0.375f}));
  EXPECT_EQ(s.absmean(), (std::vector<float>{2.5f, 2.5f, 0.375f}));
  EXPECT_EQ(s.meansq(), (std::vector<float>{8.5f, 6.5f, 0.15625f}));
}

TEST(ChannelStatistics, ReadsStridedHeads) {
  // Two tokens of (heads 2, dim 2) inside rows of 6.
  std::vector<float> data = {9, 1, 2, 3, 4, 9, 9, 5, 6, 7, 8, 9};
  const Tensor rows = Tensor::of(data.data(), DType::f32, 2, 6).columns(1, 4).heads(2, 2);
  ChannelStatistics s(4);
  s.add(rows);
  EXPECT_EQ(s.max, (std::vector<float>{5, 6, 7, 8}));
  EXPECT_EQ(s.min, (std::vector<float>{1, 2, 3, 4}));
}

TEST(ChannelStatistics, MergingEqualsOnePass) {
  const std::vector<float> rows = rows_of(20, 4, 3);
  const std::vector<float> first(rows.begin(), rows.begin() + 28), second(rows.begin() + 28, rows.end());
  ChannelStatistics merged = channels_of(first, 4);
  merged.merge(channels_of(second, 4));
  const ChannelStatistics whole = channels_of(rows, 4);
  EXPECT_EQ(merged.max, whole.max);
  EXPECT_EQ(merged.min, whole.min);
  EXPECT_EQ(merged.absmax, whole.absmax);
  EXPECT_EQ(merged.tokens, whole.tokens);
  for (std::size_t c = 0; c < 4; ++c) EXPECT_NEAR(merged.sum[c], whole.sum[c], 1e-12);
  EXPECT_ERROR(ErrorCode::invalid_argument, "4 and 5 channels", merged.merge(ChannelStatistics(5)));
}

TEST(ChannelStatistics, SeesWhatIsNotANumber) {
  EXPECT_TRUE(channels_of({1, 2}, 2).finite());
  EXPECT_FALSE(channels_of({1, std::numeric_limits<float>::quiet_NaN()}, 2).finite());
  EXPECT_FALSE(channels_of({std::numeric_limits<float>::infinity(), 2}, 2).finite());
}

TEST(Statistics, FileHoldsEverything) {
  testing::TempDir dir;
  const auto path = dir.path() / "s.safetensors";
  const Statistics saved = statistics_of(1);
  saved.save(path);
  const Statistics loaded = Statistics::load(path);
  EXPECT_EQ(loaded.provenance, saved.provenance);
  ASSERT_EQ(loaded.layers.size(), 2u);
  for (std::size_t i = 0; i < 2; ++i) {
    const auto& [name, input] = *saved.layers[i].inputs.begin();
    const ChannelStatistics& found = loaded.layers[i].inputs.at(name);
    EXPECT_EQ(found.max, input.max);
    EXPECT_EQ(found.min, input.min);
    EXPECT_EQ(found.absmax, input.absmax);
    EXPECT_EQ(found.mean(), input.mean());
    EXPECT_EQ(found.absmean(), input.absmean());
    EXPECT_EQ(loaded.layers[i].k.meansq(), saved.layers[i].k.meansq());
    EXPECT_EQ(loaded.layers[i].v.max, saved.layers[i].v.max);
    EXPECT_EQ(loaded.layers[i].k_error, saved.layers[i].k_error);
  }
}

TEST(Statistics, MergesFilesOfOneModel) {
  Statistics merged = statistics_of(1);
  const Statistics other = statistics_of(2);
  const double sum = merged.layers[1].k.sum[2] + other.layers[1].k.sum[2];
  merged.merge(other);
  EXPECT_EQ(merged.provenance.tokens, 20);
  EXPECT_EQ(merged.provenance.samples, 4);
  EXPECT_EQ(merged.provenance.data, "data1 + data2");
  EXPECT_EQ(merged.provenance.data_sha256, "sha");
  EXPECT_DOUBLE_EQ(merged.layers[1].k.sum[2], sum);
  EXPECT_FALSE(merged.layers[0].measured) << "errors were measured with other ranges";
}

TEST(Statistics, RefusesToMergeWhatIsOther) {
  Statistics statistics = statistics_of(1);
  Statistics other = statistics_of(2);
  other.provenance.fingerprint = "beef";
  EXPECT_ERROR(ErrorCode::invalid_argument, "two models", statistics.merge(other));
  EXPECT_ERROR(ErrorCode::invalid_argument, "with and without K and V", statistics.merge(statistics_of(2, false)));
  other = statistics_of(2);
  other.layers[1].inputs.clear();
  EXPECT_ERROR(ErrorCode::invalid_argument, "model.layers.1.up", statistics.merge(other));
}

TEST(Statistics, RefusesOtherFiles) {
  testing::TempDir dir;
  EXPECT_ERROR(ErrorCode::not_found, "absent", Statistics::load(dir.path() / "absent.safetensors"));
  const auto path = dir.path() / "other.safetensors";
  const float one = 1;
  SafetensorsWriter writer(path, {{"a", DType::f32, {1}}});
  writer.write("a", std::as_bytes(std::span(&one, 1)));
  writer.finish();
  EXPECT_ERROR(ErrorCode::invalid_checkpoint, "not a file of calibration statistics", Statistics::load(path));
  std::ofstream(dir.path() / "text.safetensors") << "hello";
  EXPECT_ERROR(ErrorCode::invalid_checkpoint, "text.safetensors", Statistics::load(dir.path() / "text.safetensors"));
}

}  // namespace
}  // namespace bittern::quant
