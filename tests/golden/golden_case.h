// Golden cases as the tests read them: a checkpoint folder, its prompts with the recorded logits and ids, and the
// two measures of error. What the recorded tensors mean is in README.md; nothing here runs a model.
#pragma once

#include <cstdint>
#include <filesystem>
#include <ostream>
#include <span>
#include <string>
#include <vector>

namespace bittern::golden {

/// What the reference says about one prompt. Logits are (T, vocab), row after row.
struct Prompt {
  std::vector<std::int32_t> ids;
  std::vector<float> logits;           // one pass over the whole prompt
  std::vector<float> step_logits;      // the prompt fed one token at a time; equal to logits unless recorded apart
  std::vector<std::int32_t> greedy;    // continuation after feeding one token at a time
  std::vector<std::int32_t> generate;  // continuation after one pass; equal to greedy unless recorded apart
};

/// tests/golden/models.
std::filesystem::path models_folder();
/// Names of the cases, sorted.
std::vector<std::string> case_names();
/// Reads expected.safetensors of a case. Throws bittern::Error when it is damaged or a tensor is missing.
std::vector<Prompt> load_prompts(const std::string& case_name);

/// How far `actual` is from `expected`.
struct Distance {
  double norm = 0;     // ||a - b|| / ||b||
  double largest = 0;  // max |a - b| / max |b|
};
Distance distance(std::span<const float> actual, std::span<const float> expected);

/// The lowest index of the largest value.
std::int32_t argmax(std::span<const float> values);

}  // namespace bittern::golden
