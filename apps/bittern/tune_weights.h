// The quantized models that a tuning tries: named by how they are made, made where they are missing, and used again by
// the next run.
#pragma once

#include <bittern/quantize.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "calibration_source.h"
#include "tensor/model_files.h"

namespace bittern::cli {

/// A quantization by name, "SCHEME-ALGORITHM" or "SCHEME-ALGORITHM-gGROUP": "w4a16-awq", "w8a16-sym-rtn-g64". "4.25bpw"
/// in place of a scheme: bits by measured sensitivity, so many on average.
struct NamedQuantization {
  std::string scheme;  // empty with bits_per_weight
  double bits_per_weight = 0;
  std::string algorithm;
  std::int64_t group_size = 128;
};
/// Error(invalid_argument) says what of `name` it cannot read.
NamedQuantization quantization_from_name(const std::string& name);

/// "" for the usual calibration, else "-" and eight digits that tell its data and amount. Error(io) when the data
/// cannot be read.
std::string calibration_mark(const CalibrationSourceOptions& calibration);

class TuneWeights {
 public:
  /// `directory` is where models are made; `calibration` is read for algorithms that need it.
  TuneWeights(std::shared_ptr<const ModelFiles> source, std::filesystem::path directory,
              CalibrationSourceOptions calibration, int threads);

  /// Throws what would stop make(name), as far as it can be known before any work.
  void check(const std::string& name) const;
  /// The model to load for a quantization: its directory, quantized first where that has not been done.
  std::string make(const std::string& name) const;
  /// Another calibration than the usual makes another model: its directory has a mark of it behind the name.
  std::filesystem::path directory_of(const std::string& name) const { return directory_ / (name + mark_); }

 private:
  quant::QuantizeOptions options_for(const std::string& name) const;

  std::shared_ptr<const ModelFiles> source_;
  std::filesystem::path directory_;
  CalibrationSourceOptions calibration_;
  std::string mark_;
  int threads_;
};

}  // namespace bittern::cli
