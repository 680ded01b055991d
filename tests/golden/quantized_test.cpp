// Quantized checkpoints as other programs write them, on every backend: logits and greedy ids equal those of the
// reference on the decoded weights (recorded by tools/make_quantized_golden.py).
#include <gtest/gtest.h>

#include "golden/golden_case.h"
#include "golden/step_runner.h"

namespace bittern::golden {
namespace {

constexpr double kTolerance = 1e-4;
constexpr const char* kCases[] = {
    "llama_autoawq",        "llama_autogptq_act_order",  "llama_compressed_mixed",    "llama_fp8_blocks",
    "llama_gptq_act_order", "llama_gptqmodel_act_order", "llama_llmcompressor_w4a16", "qwen2_compressed_mxfp4",
    "qwen2_gptq_v2_3bit",   "qwen2_gptqmodel_v2"};

using Param = std::tuple<const char*, BackendChoice>;

class GoldenQuantized : public ::testing::TestWithParam<Param> {
 protected:
  void SetUp() override {
    const std::string reason = reason_to_skip(std::get<1>(GetParam()));
    if (!reason.empty()) GTEST_SKIP() << reason;
  }
};

TEST_P(GoldenQuantized, EqualsTheReferenceOnDecodedWeights) {
  const auto& [name, choice] = GetParam();
  const std::string folder = std::string("../quantized/") + name;
  Bench bench(ModelFiles::from_directory(models_folder() / folder), choice);
  for (const Prompt& prompt : load_prompts(folder)) {
    Sequence sequence = bench.sequence();
    const std::vector<float> logits = bench.step(sequence, prompt.ids);
    const Distance d = distance(logits, prompt.logits);
    EXPECT_LE(d.norm, kTolerance);
    EXPECT_LE(d.largest, kTolerance);
    EXPECT_EQ(bench.greedy(sequence, bench.last_row(logits), prompt.generate.size()), prompt.generate);
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, GoldenQuantized,
                         ::testing::Combine(::testing::ValuesIn(kCases), ::testing::ValuesIn(backend_choices())),
                         [](const auto& test) {
                           return std::string(std::get<0>(test.param)) + "_" + std::get<1>(test.param).label();
                         });

}  // namespace
}  // namespace bittern::golden
