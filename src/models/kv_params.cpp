// Reading the file of static KV parameters.
#include "models/kv_params.h"

#include <bittern/error.h>

#include <cmath>
#include <filesystem>
#include <map>

#include "tensor/safetensors.h"

namespace bittern {
namespace {

[[noreturn]] void damaged(const std::string& message) {
  throw Error(ErrorCode::invalid_checkpoint, message, "make it anew with `bittern kv-params`");
}

SafetensorsFile open(const std::string& path, const ModelFiles& files) {
  if (!path.empty()) {
    const std::filesystem::path file = path;
    const auto folder = file.has_parent_path() ? file.parent_path() : std::filesystem::path(".");
    return read_safetensors(ModelFiles::from_directory(folder)->require(file.filename().string()));
  }
  const std::optional<FileBytes> found = files.find(kKvParamsFile);
  if (!found) {
    throw Error(
        ErrorCode::not_found,
        "--kv-cache int8-static needs calibrated parameters, and " + files.origin() + " has no " + kKvParamsFile,
        "make them: bittern calibrate MODEL --kv -o STATS, then bittern kv-params STATS -o MODEL; or name a file "
        "with --kv-params");
  }
  return read_safetensors(*found);
}

class Reader {
 public:
  Reader(const SafetensorsFile& file, const ModelConfig& config) : file_(file), config_(config) {
    for (const SafetensorsEntry& entry : file.entries) index_.emplace(entry.name, &entry);
  }

  /// Appends layer after layer of "layers.N.<part>".
  std::vector<float> read(const std::string& part, bool scales) const {
    std::vector<float> all;
    for (int layer = 0; layer < config_.layers; ++layer) {
      const std::string name = "layers." + std::to_string(layer) + "." + part;
      const SafetensorsEntry& entry = find(name);
      const auto* values = reinterpret_cast<const float*>(entry.data.data());
      for (std::size_t i = 0; i < entry.data.size() / sizeof(float); ++i) {
        const bool usable = std::isfinite(values[i]) && (!scales || values[i] > 0);
        if (!usable) damaged(file_.bytes.path + ": " + name + " holds " + std::to_string(values[i]));
        all.push_back(values[i]);
      }
    }
    return all;
  }
  void refuse_further_layers() const {
    const std::string next = "layers." + std::to_string(config_.layers) + ".k_scale";
    if (index_.contains(next))
      damaged(file_.bytes.path + " is of a model with more than " + std::to_string(config_.layers) + " layers");
  }

 private:
  const SafetensorsEntry& find(const std::string& name) const {
    const auto found = index_.find(name);
    if (found == index_.end()) damaged(file_.bytes.path + " has no tensor " + name);
    const SafetensorsEntry& entry = *found->second;
    const std::vector<std::int64_t> shape = {config_.kv_heads, config_.head_dim};
    if (entry.dtype != DType::f32 || entry.shape != shape) {
      damaged(file_.bytes.path + ": " + name + " is not F32 of " + std::to_string(config_.kv_heads) + " x " +
              std::to_string(config_.head_dim) + ", as the model's KV heads are");
    }
    return entry;
  }

  const SafetensorsFile& file_;
  const ModelConfig& config_;
  std::map<std::string, const SafetensorsEntry*> index_;
};

}  // namespace

std::shared_ptr<const KvStaticParams> load_kv_params(const std::string& kv_cache, const std::string& path,
                                                     const ModelFiles& files, const ModelConfig& config) {
  if (kv_cache != "int8-static") {
    if (path.empty()) return nullptr;
    throw Error(ErrorCode::invalid_argument, "--kv-params is for --kv-cache int8-static, not " + kv_cache);
  }
  const SafetensorsFile file = open(path, files);
  const Reader reader(file, config);
  auto params = std::make_shared<KvStaticParams>();
  params->layers = config.layers;
  params->kv_heads = config.kv_heads;
  params->head_dim = config.head_dim;
  params->k_scale = reader.read("k_scale", true);
  params->k_zero = reader.read("k_zero", false);
  params->v_scale = reader.read("v_scale", true);
  params->v_zero = reader.read("v_zero", false);
  reader.refuse_further_layers();
  return params;
}

}  // namespace bittern
