// What `bittern eval` runs: a model with a Runner of its own for one sequence at a time, without the engine. And which
// model a reference is: another one, or the same weights on the backend that is the oracle of the tests.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "models/runner.h"
#include "options.h"
#include "quant/quality.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace bittern::cli {

/// The part of a model that knows text: all that making prompts takes, without the weights.
class EvalText {
 public:
  explicit EvalText(const std::string& model);

  const std::shared_ptr<const ModelFiles>& files() const { return files_; }
  const text::Tokenizer& tokenizer() const { return *tokenizer_; }
  bool has_chat_template() const { return template_ != nullptr; }
  /// Token ids of a conversation, ready for the assistant's reply. Error(unsupported) without a chat template.
  std::vector<std::int32_t> encode_chat(const OrderedJson& messages) const;
  /// Token that opens a text, -1 when the tokenizer adds none.
  std::int32_t bos() const;
  /// Tokens the model was made for; 0: not known.
  std::int64_t made_for() const { return made_for_; }

 private:
  std::shared_ptr<const ModelFiles> files_;
  std::unique_ptr<text::Tokenizer> tokenizer_;
  std::unique_ptr<text::ChatTemplate> template_;
  std::int64_t made_for_ = 0;
};

class EvalModel {
 public:
  /// Runs the model `options` name, with their KV cache. `context`: tokens of the longest sequence to be run; 0: what
  /// the model was made for.
  EvalModel(const RunOptions& options, std::int64_t context);
  /// As above, with the text part already there.
  EvalModel(const RunOptions& options, EvalText text, std::int64_t context);

  const EvalText& text() const { return text_; }
  const text::Tokenizer& tokenizer() const { return text_.tokenizer(); }
  quant::LogitSource& source() { return *source_; }
  std::int32_t bos() const { return text_.bos(); }
  /// Format of the KV cache: "bf16".
  std::string kv_cache() const;
  /// "embedded:mini, cpu (avx512, 2 threads), KV bf16" for reports.
  std::string description() const;

 private:
  EvalText text_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Runner> runner_;
  std::unique_ptr<quant::LogitSource> source_;
};

/// --reference same-weights: MODEL itself on the ref backend in f32, with the same KV cache format, so that what
/// differs is what the fast kernels add.
inline constexpr const char* kSameWeights = "same-weights";

/// What a measurement is compared with.
struct ReferenceOptions {
  std::string model;      // empty: MODEL where another reference option is given, else none (for kl the embedded model)
  std::string kv_cache;   // empty: auto, for same-weights the candidate's
  std::string backend;    // empty: the candidate's, for same-weights ref
  std::string compute;    // empty: the candidate's, for same-weights f32
  std::string kv_params;  // file for int8-static
  bool given() const {
    return !(model.empty() && kv_cache.empty() && backend.empty() && compute.empty() && kv_params.empty());
  }
};
void add_reference_options(CLI::App& command, ReferenceOptions& reference, const std::string& absent);

/// How the reference is to be run beside `candidate`, whose KV cache has the format `candidate_kv`: model, kv_cache,
/// backend and device of the result.
RunOptions reference_run(const RunOptions& candidate, const ReferenceOptions& reference,
                         const std::string& candidate_kv);

}  // namespace bittern::cli
