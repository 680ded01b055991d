// The text of the evaluation that ends a quantization: a file named on the command line, or the held-out text that
// ships with the program, tokenized for a model.
#pragma once

#include <bittern/quantize.h>

#include <cstdint>
#include <string>

#include "tensor/model_files.h"
#include "text/tokenizer.h"

namespace bittern::cli {

struct EvaluationSourceOptions {
  std::string data;         // "": the text that ships with the program
  std::int64_t tokens = 0;  // 0: by the size of the model
  bool off = false;
};

/// Token that opens a text, -1 when the tokenizer adds none.
std::int32_t opening_token(const text::Tokenizer& tokenizer);

/// A model whose tokenizer is missing or is another model's is not measured on the text of the program, and
/// Evaluation::absent says why; on a text the user named that is an error, as is a file that cannot be read.
quant::Evaluation read_evaluation(const ModelFiles& files, const EvaluationSourceOptions& options);

}  // namespace bittern::cli
