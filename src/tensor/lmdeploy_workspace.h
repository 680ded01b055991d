// LMDeploy's classic workspace (0.0.x to 0.2.x) as a model: triton_models/weights with config.ini and raw arrays, and
// triton_models/tokenizer. Files of a Hugging Face checkpoint are made from config.ini; tensors get the checkpoint's
// names, with LMDeploy's changes undone: fused q, k and v, transposed matrices, interleaved heads, parts per GPU.
// Its 4-bit layout is that of one GPU kernel and is refused by name.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tensor/checkpoint.h"
#include "tensor/config_ini.h"
#include "tensor/model_files.h"

namespace bittern {

/// Whether `dir` is such a workspace: it holds triton_models/weights/config.ini.
bool is_lmdeploy_workspace(const std::filesystem::path& dir);

class LmdeployFiles final : public ModelFiles {
 public:
  /// Reads config.ini. Errors: those of ConfigIni; invalid_argument for a key that is missing; unsupported for weights
  /// in 4 or 8 bits and settings that have no counterpart, by name.
  explicit LmdeployFiles(const std::filesystem::path& dir);

  const std::string& origin() const override { return origin_; }
  /// config.json, generation_config.json and, with static KV parameters, kv_params.safetensors, all made; and the files
  /// of the tokenizer's folder.
  std::vector<std::string> list() const override;
  std::optional<FileBytes> find(std::string_view name) const override;
  const RunSettings* run_settings() const override { return &settings_; }

  const ConfigIni& config_ini() const { return ini_; }
  const std::filesystem::path& weights_dir() const { return weights_dir_; }

 private:
  void make_config();
  void make_kv_params();

  std::string origin_;
  std::filesystem::path weights_dir_;
  ConfigIni ini_;
  RunSettings settings_;
  std::shared_ptr<const ModelFiles> tokenizer_;  // null when there is no such folder
  std::map<std::string, std::shared_ptr<const std::string>, std::less<>> made_;
};

/// The tensors. A file of another size than config.ini asks for is Error(invalid_checkpoint) with both sizes, before
/// any is read.
std::unique_ptr<Checkpoint> open_lmdeploy_checkpoint(std::shared_ptr<const LmdeployFiles> files);

}  // namespace bittern
