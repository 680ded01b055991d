// Single linears that the compressed-tensors package stored, decoded as the package decodes them, and the stored bits
// made again by our writers (tests/golden/formats, recorded by tools/make_format_golden.py).
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "support/memory_files.h"
#include "tensor/checkpoint.h"
#include "tensor/compressed_tensors.h"
#include "tensor/safetensors.h"

namespace bittern {
namespace {

std::vector<std::string> golden_names() {
  std::vector<std::string> names;
  for (const auto& file : std::filesystem::directory_iterator(BITTERN_SOURCE_DIR "/tests/golden/formats")) {
    if (file.path().extension() == ".safetensors") names.push_back(file.path().stem().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

class FormatGoldenTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    std::ifstream file(BITTERN_SOURCE_DIR "/tests/golden/formats/" + GetParam() + ".safetensors", std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(file), {}};
    files_ = testing::memory_files({{"model.safetensors", bytes}});
    const SafetensorsFile parsed = read_safetensors(*files_->find("model.safetensors"));
    config_ = parse_json(parsed.metadata.at("quantization_config"), "quantization_config");
    checkpoint_ = open_checkpoint(files_, config_);
  }

  Weight linear() const {
    std::vector<std::string> used;
    Weight weight = checkpoint_->linear("m", used);
    EXPECT_EQ(used.size() + 1, checkpoint_->entries().size()) << "every tensor but 'expected' is used";
    return weight;
  }

  void expect_stored(const char* name, const Tensor& made) const {
    const Weight stored = checkpoint_->dense(name);
    ASSERT_EQ(stored.data.dtype, made.dtype) << name;
    ASSERT_EQ(stored.data.size(), made.size()) << name;
    ASSERT_EQ(stored.data.rows(), made.rows()) << name;
    EXPECT_EQ(std::memcmp(stored.data.data, made.data, static_cast<std::size_t>(made.size()) * dtype_size(made.dtype)),
              0)
        << name;
  }

  std::shared_ptr<const ModelFiles> files_;
  Json config_;
  std::unique_ptr<Checkpoint> checkpoint_;
};

// The package computes in the type of the scales, so its numbers are ours rounded to that type.
TEST_P(FormatGoldenTest, DecodesAsThePackageDoes) {
  const Weight ours = to_f32(linear());
  const Weight theirs = checkpoint_->dense("expected");
  ASSERT_EQ(std::pair(ours.out, ours.in), std::pair(theirs.out, theirs.in));
  const float* a = ours.data.as<float>();
  const float* b = theirs.data.as<float>();
  const float bound = GetParam() == "mxfp4" ? 0.0F : GetParam().ends_with("f16") ? 0x1p-11F : 0x1p-8F;
  for (std::int64_t i = 0; i < ours.out * ours.in; ++i) {
    ASSERT_LE(std::abs(a[i] - b[i]), bound * std::abs(a[i])) << i << ": " << a[i] << " and " << b[i];
  }
}

class FormatWriterTest : public FormatGoldenTest {};

TEST_P(FormatWriterTest, MakesTheSameBits) {
  const Weight weight = linear();
  const bool symmetric = !checkpoint_->contains("m.weight_zero_point");
  const DType dtype = checkpoint_->dense("m.weight_scale").data.dtype;
  if (config_["format"] == "pack-quantized") {
    const CompressedTensors made = pack_compressed(weight, symmetric, dtype);
    expect_stored("m.weight_packed", made.weight);
    expect_stored("m.weight_scale", made.scale);
    expect_stored("m.weight_shape", made.shape);
    if (!symmetric) expect_stored("m.weight_zero_point", made.zero_point);
  } else {
    const CompressedTensors made = pack_int_quantized(weight, dtype);
    expect_stored("m.weight", made.weight);
    expect_stored("m.weight_scale", made.scale);
    EXPECT_TRUE(weight.format.int8_activations);
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, FormatGoldenTest, ::testing::ValuesIn(golden_names()),
                         [](const auto& test) { return test.param; });

INSTANTIATE_TEST_SUITE_P(Cases, FormatWriterTest,
                         ::testing::Values("pack_2_group_asym", "pack_3_group_asym", "pack_4_group_asym",
                                           "pack_5_group_asym", "pack_6_group_asym", "pack_7_group_asym",
                                           "pack_8_group_asym", "pack_3_channel_asym", "pack_4_group_sym",
                                           "pack_4_channel_sym_f16", "int_8_channel_w8a8"),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace bittern
