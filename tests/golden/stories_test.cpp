// A real trained model, stories260K of BITTERN_SHARED_DATA, against the float64 reference that lies beside it: token
// ids, last logits, 40 greedy ids, the NLL of 60 documents, and the perplexity that rounding to 4 bits leaves.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/json.h"
#include "base/mmap_file.h"
#include "golden/golden_case.h"
#include "golden/step_runner.h"
#include "nn/linear.h"
#include "quant/quality.h"
#include "quant/rtn.h"
#include "support/shared_data.h"
#include "text/tokenizer.h"

namespace bittern::golden {
namespace {

constexpr const char* kModel = "models/stories260K";
constexpr const char* kTexts = "text/tinystories.txt";
constexpr std::size_t kDocuments = 60;
constexpr int kContext = 512;

std::shared_ptr<const ModelFiles> model_files() { return ModelFiles::from_directory(testing::shared_data(kModel)); }

Json reference() { return read_json_file(testing::shared_data(kModel) / "reference.json"); }

text::Tokenizer tokenizer() {
  const auto files = model_files();
  return text::Tokenizer(files->origin(), [&](std::string_view name) -> std::optional<std::string> {
    const auto file = files->find(name);
    if (!file) return std::nullopt;
    return std::string(file->text());
  });
}

// --- prompts ---

class Stories : public ::testing::TestWithParam<BackendChoice> {
 protected:
  void SetUp() override {
    SKIP_WITHOUT_SHARED_DATA(kModel);
    const std::string reason = reason_to_skip(GetParam());
    if (!reason.empty()) GTEST_SKIP() << reason;
  }
};

TEST_P(Stories, LogitsAndGreedyIdsEqualReference) {
  Bench bench(model_files(), GetParam());
  const text::Tokenizer words = tokenizer();
  for (const Json& prompt : reference()["cases"]) {
    const auto text = prompt["text"].get<std::string>();
    const std::vector<std::int32_t> ids = words.encode(text);
    EXPECT_EQ(ids, prompt["ids"].get<std::vector<std::int32_t>>()) << text;
    Sequence sequence = bench.sequence();
    const std::vector<float> logits = bench.step(sequence, ids);
    const Distance d = distance(bench.last_row(logits), prompt["last_logits"].get<std::vector<float>>());
    EXPECT_LE(d.norm, 1e-4) << text;
    EXPECT_LE(d.largest, 1e-4) << text;
    EXPECT_EQ(bench.greedy(sequence, bench.last_row(logits), 40), prompt["greedy_40"].get<std::vector<std::int32_t>>())
        << text;
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, Stories, ::testing::ValuesIn(backend_choices()),
                         [](const auto& each) { return each.param.label(); });

// --- documents ---

std::string stripped(std::string_view text) {
  const auto begin = text.find_first_not_of(" \n\r\t");
  if (begin == std::string_view::npos) return "";
  return std::string(text.substr(begin, text.find_last_not_of(" \n\r\t") - begin + 1));
}

// The first documents of the file, each with the tokenizer's BOS in front.
std::vector<std::vector<std::int32_t>> documents() {
  constexpr std::string_view kSeparator = "<|endoftext|>";
  const MmapFile file(testing::shared_data(kTexts));
  const text::Tokenizer words = tokenizer();
  std::vector<std::vector<std::int32_t>> result;
  std::string_view rest = file.text();
  while (result.size() < kDocuments) {
    const std::size_t end = rest.find(kSeparator);
    const std::string document = stripped(rest.substr(0, end));
    if (!document.empty()) result.push_back(words.encode(document));
    if (end == std::string_view::npos) break;
    rest.remove_prefix(end + kSeparator.size());
  }
  return result;
}

// Replaces every linear of a loaded model by its 4-bit form, in groups of the largest divisor of its width up to 32.
class RoundLinears final : public nn::Visitor {
 public:
  RoundLinears(const Checkpoint& checkpoint, Backend& backend) : checkpoint_(checkpoint), backend_(backend) {}

  void linear(const std::string& name, nn::Linear& linear) override {
    ASSERT_FALSE(linear.has_bias()) << name;
    std::vector<std::string> used;
    const Weight dense = to_f32(checkpoint_.linear(name, used));
    linear.bind(backend_.prepare(quant::rtn_int4(dense, group_of(dense.in), DType::f32, pool_)), nullptr);
    ++rounded;
  }
  void norm(const std::string&, nn::RmsNorm&) override {}
  void embedding(const std::string&, nn::Embedding&) override {}

  int rounded = 0;

 private:
  static std::int64_t group_of(std::int64_t width) {
    std::int64_t group = 32;
    while (width % group != 0) --group;
    return group;
  }

  const Checkpoint& checkpoint_;
  Backend& backend_;
  ThreadPool pool_{2};
};

class StoriesNll : public ::testing::Test {
 protected:
  void SetUp() override {
    SKIP_WITHOUT_SHARED_DATA(kModel);
    SKIP_WITHOUT_SHARED_DATA(kTexts);
    backend_ = make_backend("cpu", {});
    model_ = load_model(model_files(), *backend_);
  }

  quant::DocumentResult nll() {
    RunnerLimits limits;
    limits.max_tokens = kContext;
    limits.max_logit_rows = kContext;
    Runner runner(*model_, *backend_, model_->kv_spec(KvFormat::f32, 64), kContext / 64, limits);
    quant::RunnerSource source(runner);
    quant::DocumentOptions options;
    options.context = kContext;
    return quant::document_nll(source, documents(), options);
  }

  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Model> model_;
};

TEST_F(StoriesNll, PlainEqualsReference) {
  const quant::DocumentResult result = nll();
  const Json expected = reference()["tinystories_nll"];
  EXPECT_EQ(result.tokens, expected["tokens"].get<std::int64_t>());
  EXPECT_NEAR(result.nll.mean, 1.29597, 0.0005);
  const Json& each = expected["per_doc_tokens_nll"];
  ASSERT_EQ(result.documents.size(), each.size());
  for (std::size_t i = 0; i < each.size(); ++i) {
    EXPECT_EQ(result.documents[i].tokens, each[i][0].get<std::int64_t>()) << "document " << i;
    EXPECT_NEAR(result.documents[i].nll, each[i][1].get<double>(), 1e-4 * each[i][1].get<double>()) << "document " << i;
  }
  RecordProperty("nll", std::to_string(result.nll.mean));
}

TEST_F(StoriesNll, RoundedToFourBitsEqualsBaseline) {
  constexpr double kBaseline = 3.92;
  const std::unique_ptr<Checkpoint> checkpoint = open_checkpoint(model_files(), nullptr);
  RoundLinears round(*checkpoint, *backend_);
  model_->visit(round);
  EXPECT_EQ(round.rounded, model_->config().layers * 7);  // the head is tied and stays as it is
  const double perplexity = nll().perplexity();
  RecordProperty("perplexity", std::to_string(perplexity));
  EXPECT_NEAR(perplexity, kBaseline, 0.02 * kBaseline);
}

}  // namespace
}  // namespace bittern::golden
