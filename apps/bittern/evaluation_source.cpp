// Reading and tokenizing the text of an evaluation.
#include "evaluation_source.h"

#include <bittern/error.h>

#include <algorithm>
#include <optional>

#include "base/sha256.h"
#include "calibration_text.h"
#include "model_loader.h"
#include "model_source.h"
#include "models/model.h"
#include "server/model_text.h"

namespace bittern::cli {
namespace {

quant::Evaluation tokenized(const ModelFiles& files, std::string name, std::string_view text) {
  const auto tokenizer = server::load_tokenizer(files);
  quant::Evaluation evaluation;
  Sha256 hash;
  hash.update(text);
  evaluation.name = std::move(name);
  evaluation.sha256 = hash.finish();
  evaluation.text = tokenizer->encode(text, {.parse_special = false});
  evaluation.bos = opening_token(*tokenizer);
  return evaluation;
}

void check_vocabulary(const ModelFiles& files, const quant::Evaluation& evaluation) {
  const ModelConfig config = load_config(files);
  const std::int32_t largest = *std::ranges::max_element(evaluation.text);
  if (largest < config.vocab) return;
  throw Error(ErrorCode::invalid_argument,
              "the tokenizer makes id " + std::to_string(largest) + " of " + evaluation.name +
                  ", the model's vocabulary has " + std::to_string(config.vocab) + " entries",
              "use the tokenizer that belongs to the model");
}

quant::Evaluation absent(std::string reason) {
  quant::Evaluation evaluation;
  evaluation.absent = std::move(reason);
  return evaluation;
}

}  // namespace

std::int32_t opening_token(const text::Tokenizer& tokenizer) {
  const std::vector<std::int32_t> opening = tokenizer.encode("");
  const std::optional<std::int32_t> bos = tokenizer.special_ids().bos;
  return bos && !opening.empty() && opening.front() == *bos ? *bos : -1;
}

quant::Evaluation read_evaluation(const ModelFiles& files, const EvaluationSourceOptions& options) {
  if (options.off) return absent("--no-eval was given");
  quant::Evaluation evaluation;
  if (!options.data.empty()) {
    const std::string text = read_text(options.data);
    if (text.empty()) throw Error(ErrorCode::invalid_argument, "--eval-data " + options.data + " is empty");
    evaluation = tokenized(files, options.data, text);
    check_vocabulary(files, evaluation);
  } else {
    try {
      const bool mini = is_embedded(files);
      evaluation = mini ? tokenized(files, std::string(kMiniHeldOutText), mini_heldout_text())
                        : tokenized(files, std::string(kHeldOutText), built_in_heldout_text());
      check_vocabulary(files, evaluation);
    } catch (const Error& error) {
      return absent(error.what());
    }
  }
  evaluation.tokens = options.tokens;
  return evaluation;
}

}  // namespace bittern::cli
