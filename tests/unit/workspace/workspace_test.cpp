// Workspaces end to end below the command line: every golden model written and opened again with the same bits on every
// backend, config.ini edited, and each kind of damage refused by name.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>

#include "base/sha256.h"
#include "golden/golden_case.h"
#include "golden/step_runner.h"
#include "models/workspace_export.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"
#include "tensor/workspace.h"

namespace bittern::golden {
namespace {

namespace fs = std::filesystem;
using testing::TempDir;

std::vector<std::string> all_cases() {
  std::vector<std::string> names = case_names();
  for (const char* name : {"llama_compressed_mixed", "llama_fp8_blocks", "llama_gptq_act_order",
                           "qwen2_compressed_mxfp4", "qwen2_gptq_v2_3bit"}) {
    names.push_back(std::string("../quantized/") + name);
  }
  return names;
}

std::shared_ptr<const ModelFiles> golden_files(const std::string& name) {
  return ModelFiles::from_directory(models_folder() / name);
}

WorkspaceReport make_workspace(const std::string& name, const fs::path& output) {
  WorkspaceOptions options;
  options.output = output;
  options.threads = 1;
  return export_workspace(golden_files(name), options);
}

std::vector<float> logits_of(const std::shared_ptr<const ModelFiles>& files, const std::vector<std::int32_t>& ids,
                             const BackendChoice& choice) {
  Bench bench(files, choice);
  Sequence sequence = bench.sequence();
  return bench.step(sequence, ids);
}

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write(const fs::path& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }

void edit(const fs::path& path, const std::string& from, const std::string& to) {
  std::string text = read(path);
  const std::size_t at = text.find(from);
  ASSERT_NE(at, std::string::npos) << path << " has no " << from;
  write(path, text.replace(at, from.size(), to));
}

class GoldenWorkspace : public ::testing::TestWithParam<std::string> {};

TEST_P(GoldenWorkspace, GivesTheSameBitsOnEveryBackend) {
  const TempDir temp;
  const fs::path dir = temp.path() / "ws";
  const WorkspaceReport report = make_workspace(GetParam(), dir);
  EXPECT_EQ(report.bytes, static_cast<std::int64_t>(fs::file_size(dir / "weights/packed.safetensors")));
  EXPECT_GT(report.parameters, 0);
  const std::vector<std::int32_t> ids = load_prompts(GetParam()).front().ids;
  // The layout is the CPU backend's: there the packings are used as they lie, on ref they are unpacked.
  for (const BackendChoice& choice : backend_choices()) {
    if (!reason_to_skip(choice).empty()) continue;
    EXPECT_EQ(logits_of(open_workspace(dir), ids, choice), logits_of(golden_files(GetParam()), ids, choice))
        << choice.label();
  }
}

TEST_P(GoldenWorkspace, AWorkspaceOfAWorkspaceIsTheSame) {
  const TempDir temp;
  make_workspace(GetParam(), temp.path() / "one");
  WorkspaceOptions options;
  options.output = temp.path() / "two";
  options.threads = 1;
  export_workspace(open_workspace(temp.path() / "one"), options);
  EXPECT_TRUE(read(temp.path() / "one/weights/packed.safetensors") ==
              read(temp.path() / "two/weights/packed.safetensors"));
  const auto but_the_name = [](std::string text) {
    const std::size_t at = text.find("model_name = ");
    return text.erase(at, text.find('\n', at) - at);
  };
  EXPECT_EQ(but_the_name(read(temp.path() / "one/weights/config.ini")),
            but_the_name(read(temp.path() / "two/weights/config.ini")));
}

INSTANTIATE_TEST_SUITE_P(Cases, GoldenWorkspace, ::testing::ValuesIn(all_cases()),
                         [](const auto& test) { return test.param.substr(test.param.rfind('/') + 1); });

class Workspace : public ::testing::Test {
 protected:
  void SetUp() override { make_workspace("llama_plain", dir_); }

  fs::path path(const char* name) const { return dir_ / "weights" / name; }
  std::shared_ptr<const ModelFiles> open() const { return open_workspace(dir_); }
  std::vector<float> logits(const std::shared_ptr<const ModelFiles>& files) const {
    return logits_of(files, {1, 5, 9, 2, 30, 7, 8, 11}, {"cpu", "generic", true});
  }

  TempDir temp_;
  fs::path dir_ = temp_.path() / "ws";
};

TEST_F(Workspace, MapsItsWeights) {
  const auto backend = make_backend("cpu", {});
  const auto model = load_model(open(), *backend);
  const std::int64_t mapped = mapped_weight_bytes(*model);
  EXPECT_GT(mapped, weight_bytes(*model) * 9 / 10) << "only norms are copied";
  EXPECT_LT(mapped, static_cast<std::int64_t>(fs::file_size(path("packed.safetensors"))));
  const auto plain = load_model(golden_files("llama_plain"), *backend);
  EXPECT_EQ(mapped_weight_bytes(*plain), 0);
  EXPECT_EQ(weight_bytes(*plain), weight_bytes(*model));
}

TEST_F(Workspace, OutlivesItsFilesObject) {
  const auto backend = make_backend("cpu", {});
  std::unique_ptr<Model> model;
  {
    const auto files = open();
    model = load_model(files, *backend);
  }
  Runner runner(*model, *backend, model->kv_spec(KvFormat::f32, 16), 4, {});
  SingleSequence sequence(runner);
  sequence.feed(std::vector<std::int32_t>{1, 2, 3}, {},
                [](std::int64_t, std::span<const float> logits) { EXPECT_FALSE(std::isnan(logits[0])); });
}

TEST_F(Workspace, RepackingForAnotherBackendIsTold) {
  std::vector<std::string> notices;
  LoadOptions options;
  options.notice = [&](const std::string& message) { notices.push_back(message); };
  const auto ref = make_backend("ref", {});
  load_model(open(), *ref, options);
  ASSERT_EQ(notices.size(), 1U);
  EXPECT_NE(notices[0].find("cpu-tiles16 version 1"), std::string::npos) << notices[0];
  notices.clear();
  const auto cpu = make_backend("cpu", {});
  load_model(open(), *cpu, options);
  EXPECT_TRUE(notices.empty());
}

TEST_F(Workspace, LevelsAreRecordedAndChecked) {
  WorkspaceOptions options;
  options.output = temp_.path() / "avx2";
  options.level = "avx2";
  EXPECT_EQ(export_workspace(golden_files("llama_plain"), options).level, "avx2");
  const auto files = std::dynamic_pointer_cast<const WorkspaceFiles>(open_workspace(options.output));
  EXPECT_EQ(files->manifest().level, "avx2");
  options.level = "avx3";
  options.output = temp_.path() / "avx3";
  EXPECT_ERROR(ErrorCode::invalid_argument, "avx3", export_workspace(golden_files("llama_plain"), options));
  EXPECT_FALSE(fs::exists(options.output));
}

TEST_F(Workspace, AnExistingOutputIsKeptUnlessToldOtherwise) {
  EXPECT_ERROR(ErrorCode::invalid_argument, "--overwrite", make_workspace("llama_plain", dir_));
  WorkspaceOptions options;
  options.output = dir_;
  options.overwrite = true;
  export_workspace(golden_files("llama_biases"), options);
  EXPECT_TRUE(open()->find("config.json")->text() == golden_files("llama_biases")->find("config.json")->text());
  // A directory that is no workspace is never replaced.
  fs::create_directories(temp_.path() / "other");
  write(temp_.path() / "other/thesis.txt", "years of work");
  options.output = temp_.path() / "other";
  EXPECT_ERROR(ErrorCode::invalid_argument, "not a workspace", export_workspace(golden_files("llama_plain"), options));
  options.output = dir_ / "inside";
  EXPECT_ERROR(ErrorCode::invalid_argument, "overlaps", export_workspace(open(), options));
}

TEST_F(Workspace, ADryRunWritesNothingAndEstimatesWell) {
  for (const std::string& name : all_cases()) {
    WorkspaceOptions options;
    options.output = temp_.path() / "dry";
    options.dry_run = true;
    const std::int64_t estimate = export_workspace(golden_files(name), options).bytes;
    EXPECT_FALSE(fs::exists(options.output));
    options.dry_run = false;
    options.output = temp_.path() / "real";
    options.overwrite = true;
    // Small models are mostly padding: a page per weight and the header.
    const std::int64_t slack = 64 * 4096 + (std::int64_t{1} << 18);
    EXPECT_NEAR(static_cast<double>(estimate), static_cast<double>(export_workspace(golden_files(name), options).bytes),
                static_cast<double>(slack))
        << name;
  }
}

TEST_F(Workspace, ANameThatNoIniFileHoldsIsMadeFit) {
  const std::string name = "two\nlines; and # more " + std::string(200, 'x');
  fs::copy(models_folder() / "llama_plain", temp_.path() / name);
  WorkspaceOptions options;
  options.output = temp_.path() / "named";
  export_workspace(ModelFiles::from_directory(temp_.path() / name), options);
  const auto files = std::dynamic_pointer_cast<const WorkspaceFiles>(open_workspace(options.output));
  EXPECT_EQ(files->config_ini().text("model_name").substr(0, 22), "two_lines_ and _ more ");
}

// --- config.ini ---

TEST_F(Workspace, RopeThetaChangesTheModel) {
  const std::vector<float> before = logits(open());
  edit(path("config.ini"), "rope_theta = 10000.0", "rope_theta = 500000");
  EXPECT_NE(logits(open()), before);
  EXPECT_EQ(load_config(*open()).rope.theta, 500000);
  edit(path("config.ini"), "rope_theta = 500000", "rope_theta = 1e4");
  EXPECT_EQ(logits(open()), before);
}

TEST_F(Workspace, OtherSettingsOfTheModel) {
  edit(path("config.ini"), "rope_scaling_factor = 0.0", "rope_scaling_factor = 2.0");
  const ModelConfig scaled = load_config(*open());
  EXPECT_EQ(scaled.rope.kind, nn::RopeConfig::Kind::dynamic);
  EXPECT_EQ(scaled.rope.factor, 2.0);
  edit(path("config.ini"), "rope_scaling_factor = 2.0", "use_dynamic_ntk = 1");
  EXPECT_EQ(load_config(*open()).rope.kind, nn::RopeConfig::Kind::dynamic);
  const std::string ini = read(path("config.ini"));
  const std::size_t at = ini.find("end_id = ");
  edit(path("config.ini"), ini.substr(at, ini.find('\n', at) - at), "end_id = 17");
  EXPECT_EQ(load_config(*open()).eos_ids, std::vector<std::int32_t>{17});
}

TEST_F(Workspace, SettingsOfTheRunAreHandedOut) {
  ASSERT_NE(open()->run_settings(), nullptr);
  EXPECT_FALSE(open()->run_settings()->context);
  const std::string ini = read(path("config.ini"));
  const std::size_t at = ini.find("session_len = ");
  edit(path("config.ini"), ini.substr(at, ini.find('\n', at) - at), "session_len = 24");
  EXPECT_EQ(open()->run_settings()->context, 24);
  EXPECT_EQ(golden_files("llama_plain")->run_settings(), nullptr);
}

TEST_F(Workspace, MistakesInConfigIniAreNamed) {
  edit(path("config.ini"), "session_len", "sesion_len");
  EXPECT_ERROR(ErrorCode::invalid_argument, "did you mean 'session_len'", open());
  edit(path("config.ini"), "sesion_len", "session_len");
  edit(path("config.ini"), "num_layer = ", "num_layer = 1");
  EXPECT_ERROR(ErrorCode::invalid_argument, "num_layer is 1", open());
}

// --- damage ---

TEST_F(Workspace, AChangedManifestIsRefused) {
  edit(path("manifest.json"), "\"level\"", "\"LEVEL\"");
  EXPECT_ERROR(ErrorCode::invalid_checkpoint, "SHA256SUMS", open());
}

TEST_F(Workspace, ATruncatedOrMissingFileIsRefusedAtOnce) {
  fs::resize_file(path("packed.safetensors"), fs::file_size(path("packed.safetensors")) - 1);
  EXPECT_ERROR(ErrorCode::invalid_checkpoint, "the manifest says", open());
  fs::remove(path("packed.safetensors"));
  EXPECT_ERROR(ErrorCode::not_found, "packed.safetensors", open());
  fs::remove(path("manifest.json"));
  EXPECT_FALSE(is_workspace(dir_));
}

TEST_F(Workspace, AChangedHeaderIsRefusedAtOnce) {
  edit(path("packed.safetensors"), "mlp.up_proj.packed", "mlp.xx_proj.packed");
  EXPECT_ERROR(ErrorCode::invalid_checkpoint, "up_proj.packed", open());
}

TEST_F(Workspace, AFlippedBitIsFoundByVerify) {
  const auto check = [&] { return std::dynamic_pointer_cast<const WorkspaceFiles>(open())->verify(2, nullptr); };
  EXPECT_TRUE(check().empty());
  const auto files = std::dynamic_pointer_cast<const WorkspaceFiles>(open());
  const SafetensorsEntry& target = files->tensor("model.layers.1.self_attn.k_proj.packed");
  const auto offset = target.data.data() - files->mapping()->bytes().data();
  std::string bytes = read(path("packed.safetensors"));
  bytes[static_cast<std::size_t>(offset) + 5] ^= 1;
  write(path("packed.safetensors"), bytes);
  write(dir_ / "config.json", read(dir_ / "config.json") + " ");
  const std::vector<std::string> wrong = check();
  ASSERT_EQ(wrong.size(), 2U);
  EXPECT_EQ(wrong[0], "config.json");
  EXPECT_EQ(wrong[1], "weights/packed.safetensors: model.layers.1.self_attn.k_proj.packed");
}

/// Writes the manifest anew after an edit, with its checksum, as another version of the program would.
void edit_manifest(const fs::path& dir, const std::string& from, const std::string& to) {
  const fs::path manifest = dir / "weights/manifest.json";
  const std::string before = sha256(read(manifest));
  edit(manifest, from, to);
  edit(dir / "SHA256SUMS", before, sha256(read(manifest)));
}

TEST_F(Workspace, AnotherVersionNamesTheCommandThatMakesItAnew) {
  edit_manifest(dir_, "\"version\": 1", "\"version\": 7");
  EXPECT_ERROR(ErrorCode::unsupported, "cpu-tiles16 version 7", open());
  EXPECT_ERROR(ErrorCode::unsupported, "bittern convert " + golden_files("llama_plain")->origin(), open());
  edit_manifest(dir_, "\"workspace\": 1", "\"workspace\": 2");
  EXPECT_ERROR(ErrorCode::unsupported, "workspace of version 2", open());
}

TEST_F(Workspace, ALyingManifestIsRefused) {
  edit_manifest(dir_, "\"dtype\": \"f32\"", "\"dtype\": \"u8\"");
  EXPECT_ERROR(ErrorCode::invalid_checkpoint, "dtype is 'u8'", open());
}

TEST_F(Workspace, EveryByteOfTheManifestCanBeDamagedWithoutACrash) {
  const std::string good = read(path("manifest.json"));
  const std::string sums = read(dir_ / "SHA256SUMS");
  const auto cpu = make_backend("cpu", {});
  unsigned state = 1;
  for (int i = 0; i < 150; ++i) {
    std::string bad = good;
    for (int j = 0; j < 1 + i % 3; ++j) {
      state = state * 1664525u + 1013904223u;
      bad[state % bad.size()] = static_cast<char>("0123456789\"{}[],:x-"[(state >> 8) % 19]);
    }
    write(path("manifest.json"), bad);
    std::string changed = sums;
    changed.replace(changed.find(sha256(good)), 64, sha256(bad));
    write(dir_ / "SHA256SUMS", changed);
    try {
      const auto model = load_model(open(), *cpu);
      Runner runner(*model, *cpu, model->kv_spec(KvFormat::f32, 16), 2, {});
      SingleSequence(runner).feed(std::vector<std::int32_t>{1, 2}, {}, nullptr);
    } catch (const Error&) {
    }
  }
}

}  // namespace
}  // namespace bittern::golden
