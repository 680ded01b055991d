// Checkpoints written as GGUF and read back: the same logits for every architecture that GGUF has a place for, and a
// refusal by name for the rest.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <map>

#include "golden/golden_case.h"
#include "golden/step_runner.h"
#include "models/gguf_export.h"
#include "support/expect_error.h"
#include "support/memory_files.h"
#include "tensor/gguf_model.h"
#include "text/tokenizer.h"

namespace bittern::golden {
namespace {

class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& name)
      : path_(std::filesystem::temp_directory_path() / (name + "-" + std::to_string(getpid()) + ".gguf")) {}
  ~TemporaryFile() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// The golden cases have no tokenizer; the smallest there can be is added.
std::shared_ptr<const ModelFiles> with_tokenizer(const std::string& name) {
  const auto folder = ModelFiles::from_directory(models_folder() / name);
  std::map<std::string, std::string, std::less<>> files;
  for (const std::string& file : folder->list()) files[file] = folder->require(file).text();
  files["tokenizer.json"] = R"({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
    "decoder": {"type": "ByteLevel"}, "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}})";
  return testing::memory_files(std::move(files));
}

std::vector<float> logits_of(const std::shared_ptr<const ModelFiles>& files, const std::vector<std::int32_t>& ids) {
  Bench bench(files, {"ref", "", true});
  Sequence sequence = bench.sequence();
  return bench.step(sequence, ids);
}

// What is refused, by the beginning of a case's name.
const std::map<std::string, std::string> kRefused = {
    {"internlm2", "InternLM2ForCausalLM"},    {"internlm3", "InternLM3ForCausalLM"},
    {"llama_rope_dynamic", "dynamic"},        {"llama_rope_yarn", "YaRN"},
    {"mistral_window", "sliding window"},     {"gemma2_plain", "attention scale"},
    {"gemma2_uncapped", "attention scale"},   {"qwen2_window", "sliding window"},
    {"qwen3_biases_window", "sliding window"}};

std::string reason_of(const std::string& name) {
  if (name == "qwen2_window_off") return "";
  for (const auto& [prefix, reason] : kRefused) {
    if (name.starts_with(prefix)) return reason;
  }
  return "";
}

class GgufExport : public ::testing::TestWithParam<std::string> {};

TEST_P(GgufExport, ReadsBackWithTheSameLogits) {
  const auto files = with_tokenizer(GetParam());
  const TemporaryFile file("export_" + GetParam());
  const GgufExportOptions options{GgufType::f32, 1, nullptr};
  if (const std::string reason = reason_of(GetParam()); !reason.empty()) {
    EXPECT_ERROR(ErrorCode::unsupported, reason, export_gguf(files, file.path(), options));
    EXPECT_FALSE(std::filesystem::exists(file.path()));
    return;
  }
  const GgufExportReport report = export_gguf(files, file.path(), options);
  EXPECT_GT(report.parameters, 0);
  const std::vector<std::int32_t> ids = load_prompts(GetParam()).front().ids;
  const Distance d = distance(logits_of(open_gguf(file.path()), ids), logits_of(files, ids));
  EXPECT_LE(d.norm, 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Cases, GgufExport, ::testing::ValuesIn(case_names()),
                         [](const auto& each) { return each.param; });

text::Tokenizer tokenizer_of(const std::shared_ptr<const ModelFiles>& files) {
  return text::Tokenizer(files->origin(), [&](std::string_view name) -> std::optional<std::string> {
    const auto file = files->find(name);
    return file ? std::optional<std::string>(file->text()) : std::nullopt;
  });
}

TEST(GgufExportMini, KeepsTokenizerTemplateAndLogits) {
  const auto files = ModelFiles::from_directory(std::filesystem::path(BITTERN_SOURCE_DIR) / "models/mini");
  const TemporaryFile file("export_mini");
  export_gguf(files, file.path(), {GgufType::bf16, 2, nullptr});
  const auto again = open_gguf(file.path());
  const text::Tokenizer before = tokenizer_of(files), after = tokenizer_of(again);
  for (const char* text :
       {"Hello there, what is 12 + 345?", " two  spaces\n", "<|user|>Hi<|end|>", "caf\u00e9 \U0001F999"}) {
    EXPECT_EQ(after.encode(text), before.encode(text)) << text;
  }
  EXPECT_EQ(after.special_ids().bos, before.special_ids().bos);
  EXPECT_EQ(after.special_ids().eos, before.special_ids().eos);
  const auto source = [](const ModelFiles& f) {
    return parse_json(f.require("tokenizer_config.json").text(), "config").at("chat_template");
  };
  EXPECT_EQ(source(*again), source(*files));
  const std::vector<std::int32_t> ids = before.encode("Hello there");
  EXPECT_EQ(logits_of(again, ids), logits_of(files, ids));
}

TEST(GgufExportMini, QuantizedTypesStayNear) {
  const auto files = ModelFiles::from_directory(std::filesystem::path(BITTERN_SOURCE_DIR) / "models/mini");
  const std::vector<std::int32_t> ids = tokenizer_of(files).encode("Hello there, how are you?");
  const std::vector<float> exact = logits_of(files, ids);
  for (const auto& [type, bound] : {std::pair{GgufType::q8_0, 0.03}, {GgufType::q4_0, 0.4}, {GgufType::q4_k, 0.3}}) {
    const TemporaryFile file("export_mini_quantized");
    const GgufExportReport report = export_gguf(files, file.path(), {type, 2, nullptr});
    EXPECT_GE(report.tensors.at(gguf_type_name(static_cast<std::uint32_t>(type))), 1);
    const Distance d = distance(logits_of(open_gguf(file.path()), ids), exact);
    EXPECT_LE(d.norm, bound) << gguf_type_name(static_cast<std::uint32_t>(type));
    EXPECT_GT(d.norm, 0);
  }
}

}  // namespace
}  // namespace bittern::golden
