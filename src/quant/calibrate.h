// Calibration: runs the model over sequences of tokens, one decoder layer's weights at a time, and gathers the
// statistics of quant/statistics.h. Hidden states live in files of a state directory, of which one sequence is in
// memory, so memory grows neither with the model nor with the data, and a run that was killed goes on after its last
// layer.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>

#include "backend/backend.h"
#include "quant/calibration_data.h"
#include "quant/statistics.h"
#include "tensor/model_files.h"

namespace bittern::quant {

struct CalibrateOptions {
  bool kv = false;  // K and V too
  /// File of statistics to write, replacing an older one. Beside it, `output`.state keeps hidden states and finished
  /// layers during the run, and is removed once the file is safe.
  std::filesystem::path output;
  bool resume = false;  // go on with a state that is there; without it such a state is refused
  std::int64_t seqlen = 0;
  std::uint64_t seed = 0;
  /// Called after each sample of each layer; may throw to stop.
  std::function<void(int layer, int layers, std::int64_t sample, std::int64_t samples)> progress;
};

struct CalibrateResult {
  Statistics statistics;
  int resumed_layers = 0;       // taken from the state
  std::int64_t disk_bytes = 0;  // of hidden states at once
  std::int64_t pass_bytes = 0;  // arena and K, V pool
};

/// Names a model whatever its folder: SHA-256 of config.json and, for each file of weights, its name, size, and first
/// and last 64 KiB.
std::string model_fingerprint(const ModelFiles& files);

/// Errors: those of LayerwiseModel; invalid_argument for a state of another run; io when the disk has too little room;
/// invalid_checkpoint naming the linear whose input is not finite.
CalibrateResult calibrate(const std::shared_ptr<const ModelFiles>& files, Backend& backend, const CalibrationData& data,
                          const CalibrateOptions& options);

}  // namespace bittern::quant
