// Reading of the recorded files, through the project's own safetensors reader.
#include "golden/golden_case.h"

#include <bittern/error.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "tensor/model_files.h"
#include "tensor/safetensors.h"

namespace bittern::golden {
namespace {

using Entries = std::map<std::string, SafetensorsEntry>;

template <class T>
std::vector<T> values(const SafetensorsEntry& entry) {
  std::vector<T> result(entry.data.size() / sizeof(T));
  std::memcpy(result.data(), entry.data.data(), entry.data.size());
  return result;
}

template <class T>
std::vector<T> required(const Entries& entries, const std::string& name) {
  const auto found = entries.find(name);
  if (found == entries.end()) throw Error(ErrorCode::not_found, "expected.safetensors has no tensor '" + name + "'");
  return values<T>(found->second);
}

template <class T>
std::vector<T> recorded_or(const Entries& entries, const std::string& name, const std::vector<T>& otherwise) {
  return entries.contains(name) ? required<T>(entries, name) : otherwise;
}

Prompt read_prompt(const Entries& entries, const std::string& prefix) {
  Prompt prompt;
  prompt.ids = required<std::int32_t>(entries, prefix + "ids");
  prompt.logits = required<float>(entries, prefix + "logits");
  prompt.greedy = required<std::int32_t>(entries, prefix + "greedy");
  prompt.step_logits = recorded_or(entries, prefix + "step_logits", prompt.logits);
  prompt.generate = recorded_or(entries, prefix + "generate", prompt.greedy);
  return prompt;
}

}  // namespace

std::filesystem::path models_folder() { return std::filesystem::path(BITTERN_SOURCE_DIR) / "tests/golden/models"; }

std::vector<std::string> case_names() {
  std::vector<std::string> names;
  if (!std::filesystem::is_directory(models_folder())) return names;
  for (const auto& entry : std::filesystem::directory_iterator(models_folder())) {
    if (entry.is_directory()) names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<Prompt> load_prompts(const std::string& case_name) {
  const auto files = ModelFiles::from_directory(models_folder() / case_name);
  const SafetensorsFile file = read_safetensors(files->require("expected.safetensors"));
  Entries entries;
  for (const SafetensorsEntry& entry : file.entries) entries.emplace(entry.name, entry);
  std::vector<Prompt> prompts;
  for (int i = 0;; ++i) {
    const std::string prefix = "prompt." + std::to_string(i) + ".";
    if (!entries.contains(prefix + "ids")) break;
    prompts.push_back(read_prompt(entries, prefix));
  }
  if (prompts.empty()) throw Error(ErrorCode::not_found, case_name + ": expected.safetensors has no prompt");
  return prompts;
}

Distance distance(std::span<const float> actual, std::span<const float> expected) {
  double difference = 0, norm = 0, largest_difference = 0, largest = 0;
  if (actual.size() != expected.size()) return {INFINITY, INFINITY};
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const double d = static_cast<double>(actual[i]) - static_cast<double>(expected[i]);
    if (!std::isfinite(d)) return {INFINITY, INFINITY};  // max() would let NaN pass
    difference += d * d;
    norm += static_cast<double>(expected[i]) * static_cast<double>(expected[i]);
    largest_difference = std::max(largest_difference, std::abs(d));
    largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
  }
  return {std::sqrt(difference / norm), largest_difference / largest};
}

std::int32_t argmax(std::span<const float> values) {
  return static_cast<std::int32_t>(std::max_element(values.begin(), values.end()) - values.begin());
}

}  // namespace bittern::golden
