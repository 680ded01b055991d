// The options of `bittern quantize`: what they are called, what they mean together, and which of them exclude each
// other. quantize.cpp runs what they say.
#pragma once

#include <bittern/quantize.h>

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "calibration_source.h"
#include "evaluation_source.h"
#include "serving_memory.h"
#include "tensor/model_files.h"

namespace bittern::cli {

struct QuantizeVerbOptions {
  std::vector<const CLI::Option*> calibration_options;  // to refuse them where nothing reads them
  CalibrationSourceOptions calibration;
  EvaluationSourceOptions evaluation;
  std::string model, output, max_shard = "5GB";
  std::vector<std::string> overrides;  // PATTERN=SCHEME
  double damping = 0.01;
  bool act_order = false, no_act_order = false;
  const CLI::Option* damping_option = nullptr;
  std::string budget, fit;  // "4.25bpw", "6GiB"; "": none
  std::string mix = "linear";
  std::int64_t sensitivity_tokens = 0;
  ServingOptions serving;
  std::vector<const CLI::Option*> budget_options, serving_options;  // to refuse them where nothing reads them
  std::string html;                                                 // "": no page
  quant::QuantizeOptions quantize;
  bool json = false;
  bool dry_run = false;
};

void add_quantize_options(CLI::App& command, QuantizeVerbOptions& options);

/// What the library is asked for. Reads calibration and evaluation text where they are needed.
/// Error(invalid_argument) names the option.
quant::QuantizeOptions resolved(const QuantizeVerbOptions& options, const ModelFiles& files);

}  // namespace bittern::cli
