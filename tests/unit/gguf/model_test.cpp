// A GGUF file run as a model: logits and greedy ids of a complete file against those that transformers computes for it.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/json.h"
#include "golden/golden_case.h"
#include "golden/step_runner.h"
#include "models/model.h"
#include "support/shared_data.h"
#include "tensor/gguf_model.h"

namespace bittern::golden {
namespace {

constexpr const char* kFile = "gguf/llama-2-tiny-random.gguf";

class GgufModel : public ::testing::TestWithParam<BackendChoice> {
 protected:
  void SetUp() override {
    SKIP_WITHOUT_SHARED_DATA(kFile);
    const std::string reason = reason_to_skip(GetParam());
    if (!reason.empty()) GTEST_SKIP() << reason;
  }
};

TEST_P(GgufModel, EqualsTransformers) {
  const std::filesystem::path source = BITTERN_SOURCE_DIR;
  const Json golden = read_json_file(source / "tests/golden/gguf/llama-2-tiny-random.json");
  Bench bench(open_gguf(testing::shared_data(kFile)), GetParam());
  for (const Json& each : golden.at("cases")) {
    Sequence sequence = bench.sequence();
    const auto ids = each.at("ids").get<std::vector<std::int32_t>>();
    const std::vector<float> logits = bench.step(sequence, ids);
    const std::span<const float> last = bench.last_row(logits);
    const auto every = each.at("every").get<std::size_t>();
    const auto expected = each.at("last_logits").get<std::vector<float>>();
    std::vector<float> sample;
    double square = 0;
    for (std::size_t i = 0; i < last.size(); ++i) square += static_cast<double>(last[i]) * last[i];
    for (std::size_t i = 0; i < last.size(); i += every) sample.push_back(last[i]);
    const Distance d = distance(sample, expected);
    EXPECT_LE(d.norm, 1e-4);
    EXPECT_NEAR(std::sqrt(square), each.at("norm").get<double>(), 1e-4 * each.at("norm").get<double>());
    EXPECT_EQ(bench.greedy(sequence, last, each.at("greedy").size()),
              each.at("greedy").get<std::vector<std::int32_t>>());
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, GgufModel, ::testing::ValuesIn(backend_choices()),
                         [](const auto& each) { return each.param.label(); });

TEST(GgufModelConfig, IsReadFromMetadata) {
  SKIP_WITHOUT_SHARED_DATA(kFile);
  const ModelConfig config = load_config(*open_gguf(testing::shared_data(kFile)));
  EXPECT_EQ(config.architecture, "LlamaForCausalLM");
  EXPECT_EQ(config.layers, 1);
  EXPECT_EQ(config.head_dim, 4);
  EXPECT_EQ(config.vocab, 32000);
  EXPECT_EQ(config.max_positions, 4096);
  EXPECT_FALSE(config.tied_embeddings);
  EXPECT_EQ(config.eos_ids, std::vector<std::int32_t>{2});
}

}  // namespace
}  // namespace bittern::golden
