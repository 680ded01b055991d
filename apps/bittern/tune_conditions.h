// What a tuning measures all candidates on, from its options: the text, the tasks, the context to serve with. Options
// are declared in tune.cpp.
#pragma once

#include <bittern/quantize.h>

#include <string>
#include <vector>

#include "calibration_source.h"
#include "tensor/model_files.h"
#include "tune_measure.h"

namespace bittern::cli {

/// The quantization that is tried where none is named.
inline constexpr const char* kUsualWeights = "w4a16-awq-g128";

/// What `bittern tune` was asked for.
struct TuneOptions {
  TuneConditions conditions;
  CalibrationSourceOptions calibration;
  std::string output = "bittern-tune";
  std::string quality = "balanced", memory = "0", objective = "throughput";
  std::string data, tasks;
  std::int64_t task_limit = 200, recall_length = 0;
  int recall_samples = 4;
  std::vector<std::string> kv = {"int8"};
  std::vector<std::string> weights;  // none: kUsualWeights, where the model can be quantized so
  bool no_recall = false, explain = false, json = false;
  std::string html;
};

/// The text that quality is measured on, as tokens. Errors: those of reading it; invalid_argument when the model cannot
/// read the text that ships with the program.
quant::Evaluation read_tune_text(const ModelFiles& files, const TuneOptions& options);

/// `options.conditions` filled in: context, sequences and cache that every candidate is planned for, sizes cut to what
/// the context holds, tasks and recall.
TuneConditions make_conditions(const TuneOptions& options, const ModelFiles& files, const quant::Evaluation& text);

/// Everything that measurements depend on beside the model and the candidate; `backend` is its description.
Json conditions_json(const TuneConditions& conditions, const TuneOptions& options, const quant::Evaluation& text,
                     const std::string& backend);

}  // namespace bittern::cli
