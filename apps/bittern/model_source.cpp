// Resolving MODEL. The layout of the Hugging Face cache is the one huggingface_hub documents:
// models--ORG--NAME/refs/main holds a commit, snapshots/COMMIT the files.
#include "model_source.h"

#include <bittern/error.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <vector>

#include "models/workspace_export.h"
#include "tensor/gguf_model.h"
#include "tensor/lmdeploy_workspace.h"
#include "tensor/workspace.h"

namespace bittern::cli {
namespace {

namespace fs = std::filesystem;

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

fs::path hub_cache() {
  if (const std::string cache = environment("HF_HUB_CACHE"); !cache.empty()) return cache;
  if (const std::string home = environment("HF_HOME"); !home.empty()) return fs::path(home) / "hub";
  if (const std::string xdg = environment("XDG_CACHE_HOME"); !xdg.empty()) return fs::path(xdg) / "huggingface" / "hub";
  return fs::path(environment("HOME")) / ".cache" / "huggingface" / "hub";
}

// "org/name" -> the snapshot that refs/main points to, or an empty path.
fs::path hub_snapshot(const std::string& id) {
  std::string folder = "models--";
  for (const char c : id) folder += c == '/' ? std::string("--") : std::string(1, c);
  const fs::path root = hub_cache() / folder;
  std::string commit;
  std::ifstream(root / "refs" / "main") >> commit;
  const bool is_name =
      !commit.empty() && commit.find('/') == std::string::npos && commit.find("..") == std::string::npos;
  const fs::path snapshot = root / "snapshots" / commit;
  std::error_code ignored;
  return is_name && fs::is_directory(snapshot, ignored) ? snapshot : fs::path();
}

}  // namespace

std::shared_ptr<const ModelFiles> open_model(const std::string& model) {
  if (model.empty()) return embedded_model();
  std::error_code ignored;
  if (fs::is_directory(model, ignored)) {
    if (is_workspace(model)) return open_workspace(model);
    if (is_lmdeploy_workspace(model)) return std::make_shared<LmdeployFiles>(model);
    return ModelFiles::from_directory(model);
  }
  if (fs::exists(model, ignored)) {
    if (model.ends_with(".gguf")) return open_gguf(model);
    throw Error(ErrorCode::unsupported,
                "'" + model +
                    "' is a file, and not one whose name ends in .gguf; Bittern runs GGUF files and Hugging Face "
                    "checkpoint directories",
                "give the directory that holds config.json and the .safetensors files");
  }
  if (const fs::path snapshot = hub_snapshot(model); !snapshot.empty()) return ModelFiles::from_directory(snapshot);
  throw Error(
      ErrorCode::not_found,
      "no model '" + model + "': it is not a directory, and the cache " + hub_cache().string() + " does not hold it",
      "give a directory with config.json, a .gguf file, or no MODEL for the embedded model");
}

}  // namespace bittern::cli
