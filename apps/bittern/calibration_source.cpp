// Reading and tokenizing calibration data.
#include "calibration_source.h"

#include "calibration_text.h"
#include "model_loader.h"
#include "models/model.h"
#include "server/model_text.h"

namespace bittern::cli {

quant::CalibrationData read_calibration(const ModelFiles& files, const CalibrationSourceOptions& options) {
  if (!options.data.empty()) quant::check_data_type(options.data);
  const ModelConfig config = load_config(files);
  const auto tokenizer = server::load_tokenizer(files);
  quant::CalibrationDataOptions sampling;
  sampling.samples = options.samples;
  sampling.seqlen = options.seqlen;
  sampling.seed = options.seed;
  sampling.max_positions = config.max_positions;
  sampling.vocab = config.vocab;
  sampling.column = options.column;
  if (options.data.empty())
    return quant::make_calibration_data(kBuiltInText, built_in_calibration_text(), *tokenizer, nullptr, sampling);
  const auto chat_template = server::load_chat_template(files, *tokenizer, options.chat_template);
  return quant::make_calibration_data(options.data, read_text(options.data), *tokenizer, chat_template.get(), sampling);
}

}  // namespace bittern::cli
