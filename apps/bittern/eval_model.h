// What `bittern eval` runs: a model with a Runner of its own for one sequence at a time, without the engine.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "models/runner.h"
#include "options.h"
#include "quant/quality.h"
#include "text/tokenizer.h"

namespace bittern::cli {

class EvalModel {
 public:
  /// `context`: tokens of the longest sequence to be run; 0: what the model was made for.
  EvalModel(const RunOptions& options, const std::string& model, const std::string& kv_cache, std::int64_t context);

  const text::Tokenizer& tokenizer() const { return *tokenizer_; }
  quant::LogitSource& source() { return *source_; }
  /// Token that opens a text, -1 when the tokenizer adds none.
  std::int32_t bos() const;
  /// "embedded:mini, cpu (avx512, 2 threads), KV bf16" for reports.
  std::string description() const;

 private:
  std::shared_ptr<const ModelFiles> files_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<text::Tokenizer> tokenizer_;
  std::unique_ptr<Runner> runner_;
  std::unique_ptr<quant::LogitSource> source_;
};

}  // namespace bittern::cli
