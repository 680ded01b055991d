// Calibration data: sequences of token ids for a model, drawn with a seed from plain text, or from JSON lines or
// Parquet rows of texts, conversations or prompts with completions. It reads and tokenizes; it does not run the model.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace bittern::quant {

struct CalibrationDataOptions {
  std::int64_t samples = 64;
  std::int64_t seqlen = 512;  // tokens of the longest sequence, BOS counted
  std::uint64_t seed = 0;
  std::int64_t max_positions = 0;  // of the model; 0: not checked
  std::int64_t vocab = 0;          // of the model; 0: not checked
  std::string column = {};         // of records: the one to use; "": the usual ones
};

struct CalibrationData {
  std::string name;    // file name without folders, ":column" after it where one was chosen
  std::string sha256;  // of the bytes of the file
  std::vector<std::vector<std::int32_t>> samples;
  std::int64_t available = 0;  // sequences there were to draw from, counted up to where drawing stopped
  std::int64_t tokens() const;
};

/// `name` ends in .txt, .text, .md (windows of seqlen tokens that do not overlap, drawn at random over the file, each
/// after BOS where the tokenizer adds one), or .jsonl, .json, .parquet (one sequence for each record, drawn at random
/// and cut at seqlen: {"text"}, {"messages"} or {"conversations"} through the chat template, {"prompt", "completion"}
/// through it where there is one, or `column`, a text or a conversation). `chat_template` may be null. Fewer sequences
/// than `samples` are all taken. Errors: invalid_argument names the file, the line and the reason (no samples, too
/// short, not UTF-8, no such field); unsupported names a file type that cannot be read.
CalibrationData make_calibration_data(std::string_view name, std::string_view bytes, const text::Tokenizer& tokenizer,
                                      const text::ChatTemplate* chat_template, const CalibrationDataOptions& options);

/// Whether the name is of a type that make_calibration_data() reads; Error(unsupported) otherwise.
void check_data_type(std::string_view name);

}  // namespace bittern::quant
