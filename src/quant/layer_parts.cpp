// Files of the state: job.json, and of every finished layer its tensors, its report and the hidden states behind it.
#include "quant/layer_parts.h"

#include <bittern/error.h>

#include <cstring>

#include "base/atomic_file.h"
#include "base/mmap_file.h"

namespace bittern::quant {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void refuse_other_job(const fs::path& directory) {
  throw Error(ErrorCode::invalid_argument,
              directory.string() +
                  " holds the state of another quantization, which was stopped: another model, other "
                  "options or other data",
              "run that one again to finish it, or delete the directory");
}

}  // namespace

LayerParts::LayerParts(fs::path directory, const Json& job) : directory_(std::move(directory)) {
  const fs::path file = directory_ / "job.json";
  std::error_code failure;
  if (fs::exists(file)) {
    if (read_json_file(file) != job) refuse_other_job(directory_);
    while (fs::exists(report_file(finished_))) ++finished_;
    return;
  }
  fs::create_directories(directory_, failure);
  if (failure) throw Error(ErrorCode::io, "cannot create " + directory_.string() + ": " + failure.message());
  write_file_atomically(file, job.dump(2) + "\n");
}

fs::path LayerParts::tensors(int layer) const {
  return directory_ / ("layer-" + std::to_string(layer) + ".safetensors");
}
fs::path LayerParts::report_file(int layer) const { return directory_ / ("layer-" + std::to_string(layer) + ".json"); }
fs::path LayerParts::hidden_file(int layer) const { return directory_ / ("hidden-" + std::to_string(layer) + ".f32"); }

Json LayerParts::report(int layer) const { return read_json_file(report_file(layer)); }

SafetensorsFile LayerParts::open(int layer) const {
  const std::string name = tensors(layer).filename().string();
  return read_safetensors(ModelFiles::from_directory(directory_)->require(name));
}

std::vector<float> LayerParts::hidden(std::size_t size) const {
  const std::string name = hidden_file(finished_ - 1).filename().string();
  const FileBytes file = ModelFiles::from_directory(directory_)->require(name);
  if (file.bytes.size() != size * sizeof(float)) {
    throw Error(ErrorCode::invalid_checkpoint,
                file.path + " has " + std::to_string(file.bytes.size()) + " bytes, " +
                    std::to_string(size * sizeof(float)) + " are needed",
                "the state is damaged: delete " + directory_.string());
  }
  std::vector<float> values(size);
  std::memcpy(values.data(), file.bytes.data(), file.bytes.size());
  return values;
}

void LayerParts::finish(const Json& report, std::span<const float> hidden) {
  write_file_atomically(hidden_file(finished_),
                        {reinterpret_cast<const char*>(hidden.data()), hidden.size() * sizeof(float)});
  write_file_atomically(report_file(finished_), report.dump() + "\n");
  std::error_code ignored;
  if (finished_ > 0) fs::remove(hidden_file(finished_ - 1), ignored);
  ++finished_;
}

void LayerParts::remove() {
  std::error_code ignored;
  fs::remove_all(directory_, ignored);
}

}  // namespace bittern::quant
