// Calibration sequences for the verbs that need them: a file named on the command line, or the text that ships with the
// program, tokenized for a model.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "quant/calibration_data.h"
#include "tensor/model_files.h"

namespace bittern::cli {

struct CalibrationSourceOptions {
  std::string data;    // "": the text that ships with the program
  std::string column;  // of records: the one to use; "": the usual ones
  std::int64_t samples = 128;
  std::int64_t seqlen = 512;
  std::uint64_t seed = 0;
  std::optional<std::string> chat_template;  // source in place of the checkpoint's
};

/// Errors: those of make_calibration_data() and of loading a tokenizer; io when the file cannot be read.
quant::CalibrationData read_calibration(const ModelFiles& files, const CalibrationSourceOptions& options);

}  // namespace bittern::cli
