// One JSON object, rewritten whole after each measurement.
#include "tune_state.h"

#include <bittern/error.h>

#include "base/atomic_file.h"
#include "model_loader.h"

namespace bittern::cli {

TuneState::TuneState(std::filesystem::path path, const std::string& model, const Json& conditions)
    : path_(std::move(path)), head_({{"model_fingerprint", model}, {"conditions", conditions}}) {
  if (std::filesystem::exists(path_)) read();
}

void TuneState::read() {
  const Json json = parse_json(read_text(path_.string()), path_.string());
  if (!json.is_object() || !json.contains("model_fingerprint") || !json.contains("measured") ||
      !json.at("measured").is_object()) {
    throw Error(ErrorCode::invalid_checkpoint, path_.string() + " is not the state of a tuning",
                "name another --output, or delete the file");
  }
  if (json.at("model_fingerprint") != head_.at("model_fingerprint")) {
    throw Error(ErrorCode::invalid_argument, path_.parent_path().string() + " belongs to the tuning of another model",
                "name another --output");
  }
  const Json& measured = json.at("measured");
  if (json.value("conditions", Json()) != head_.at("conditions")) {
    dropped_ = measured.size();
    return;
  }
  for (const auto& [name, measurement] : measured.items()) measured_[name] = measurement;
}

const Json* TuneState::find(const std::string& candidate) const {
  const auto found = measured_.find(candidate);
  return found == measured_.end() ? nullptr : &found->second;
}

void TuneState::put(const std::string& candidate, Json measurement) {
  measured_[candidate] = std::move(measurement);
  Json json = head_;
  json["measured"] = measured_;
  std::filesystem::create_directories(path_.parent_path());
  write_file_atomically(path_, json.dump(1) + "\n");
}

}  // namespace bittern::cli
