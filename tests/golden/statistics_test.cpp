// Calibration against hooks in transformers: every statistic of every linear, of K and of V, for every architecture.
// The references are tests/golden/statistics (tools/make_statistics_golden.py); the runs go layer by layer.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "golden_case.h"
#include "quant/calibrate.h"
#include "step_runner.h"
#include "support/temp_dir.h"
#include "tensor/safetensors.h"

namespace bittern {
namespace {

namespace fs = std::filesystem;

constexpr double kTolerance = 1e-5;  // of the largest value of the vector's kind

fs::path references() { return golden::models_folder().parent_path() / "statistics"; }

std::vector<std::string> reference_names() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(references())) names.push_back(entry.path().stem().string());
  std::ranges::sort(names);
  return names;
}

SafetensorsFile open(const fs::path& path) {
  return read_safetensors(ModelFiles::from_directory(path.parent_path())->require(path.filename().string()));
}

std::span<const float> values(const SafetensorsEntry& entry) {
  return {reinterpret_cast<const float*>(entry.data.data()), entry.data.size() / sizeof(float)};
}

std::map<std::string, SafetensorsEntry> by_name(const SafetensorsFile& file) {
  std::map<std::string, SafetensorsEntry> map;
  for (const SafetensorsEntry& entry : file.entries) map.emplace(entry.name, entry);
  return map;
}

double largest(std::span<const float> numbers) {
  double result = 0;
  for (const float number : numbers) result = std::max(result, std::abs(double{number}));
  return result;
}

quant::CalibrationData data_of(const std::string& name) {
  quant::CalibrationData data;
  data.name = name;
  for (const golden::Prompt& prompt : golden::load_prompts(name)) data.samples.push_back(prompt.ids);
  return data;
}

class StatisticsGolden : public ::testing::TestWithParam<std::tuple<std::string, golden::BackendChoice>> {};

TEST_P(StatisticsGolden, EqualsHooksInTransformers) {
  const auto& [name, choice] = GetParam();
  if (const std::string reason = golden::reason_to_skip(choice); !reason.empty()) GTEST_SKIP() << reason;
  const testing::TempDir dir;
  BackendOptions backend_options;
  backend_options.isa = choice.isa;
  backend_options.deterministic = choice.deterministic;
  const auto backend = make_backend(choice.backend, backend_options);
  quant::CalibrateOptions options;
  options.kv = true;
  options.output = dir.path() / "statistics.safetensors";
  quant::calibrate(ModelFiles::from_directory(golden::models_folder() / name), *backend, data_of(name), options);

  const SafetensorsFile expected_file = open(references() / (name + ".safetensors")), found_file = open(options.output);
  const auto expected = by_name(expected_file), found = by_name(found_file);
  ASSERT_GT(expected.size(), 50u);
  for (const auto& [tensor, entry] : expected) {
    ASSERT_TRUE(found.contains(tensor)) << tensor;
    EXPECT_EQ(found.at(tensor).shape, entry.shape) << tensor;
    const std::span<const float> a = values(found.at(tensor)), b = values(entry);
    ASSERT_EQ(a.size(), b.size()) << tensor;
    // Means and extremes may be near zero where values cancel; the scale of the values is their absmax.
    const std::string kind = tensor.ends_with(".meansq") ? ".meansq" : ".absmax";
    const double scale = largest(values(expected.at(tensor.substr(0, tensor.rfind('.')) + kind)));
    for (std::size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], kTolerance * scale) << tensor << " " << i;
  }
  for (const auto& [tensor, entry] : found) {
    EXPECT_TRUE(expected.contains(tensor) || tensor.ends_with("_error")) << tensor << " is in no reference";
  }
}

std::vector<golden::BackendChoice> backends() { return {{"ref", "", true}, {"cpu", "", true}, {"cpu", "", false}}; }

INSTANTIATE_TEST_SUITE_P(Cases, StatisticsGolden,
                         ::testing::Combine(::testing::ValuesIn(reference_names()), ::testing::ValuesIn(backends())),
                         [](const auto& test) {
                           return std::get<0>(test.param) + "_" + std::get<1>(test.param).label();
                         });

TEST(StatisticsGolden, EveryArchitectureHasAReference) {
  std::set<std::string> covered;
  for (const std::string& name : reference_names()) {
    covered.insert(load_config(*ModelFiles::from_directory(golden::models_folder() / name)).architecture);
  }
  const std::vector<std::string> supported = supported_architectures();
  EXPECT_EQ(covered, std::set<std::string>(supported.begin(), supported.end()));
}

}  // namespace
}  // namespace bittern
