// Quality: what a model loses, measured on text. Perplexity and KL divergence by llama.cpp's protocol (or Hugging
// Face's strided windows), and NLL per document; all sums in double, in the order of the text, so a run repeats to the
// bit. It sees tokens and logits alone: tokenizing, tasks with checkable answers and reports are made elsewhere.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "quant/bootstrap.h"

namespace bittern {
class Runner;
}

namespace bittern::quant {

/// Logits of fresh sequences: all that a metric needs of a model.
class LogitSource {
 public:
  /// `index` counts from the start of the sequence; `logits` is (vocab) and valid during the call.
  using Sink = std::function<void(std::int64_t index, std::span<const float> logits)>;

  virtual ~LogitSource() = default;
  /// Runs `tokens` as a new sequence; calls sink once for each i with want[i] (same length as tokens), ascending.
  virtual void run(std::span<const std::int32_t> tokens, const std::vector<bool>& want, const Sink& sink) = 0;
  virtual std::int64_t vocab() const = 0;
  /// Tokens the longest sequence may have.
  virtual std::int64_t max_context() const = 0;
};

/// A model on a backend as a LogitSource. The runner must outlive it, and one sequence of it is used at a time.
class RunnerSource : public LogitSource {
 public:
  explicit RunnerSource(Runner& runner);
  ~RunnerSource() override;
  void run(std::span<const std::int32_t> tokens, const std::vector<bool>& want, const Sink& sink) override;
  std::int64_t vocab() const override;
  std::int64_t max_context() const override;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// log(sum(exp(logits))) in double, shifted by the largest so that nothing overflows. At least one logit.
double log_sum_exp(std::span<const float> logits);
/// -log of the probability that softmax(logits) gives to `id`, nats. Error(invalid_checkpoint) where it is not finite;
/// `where` says whose logits these are ("at token 5 of the text").
double token_nll(std::span<const float> logits, std::int32_t id, const std::string& where);

struct PplOptions {
  /// Tokens of one window.
  int context = 512;
  /// 0: llama.cpp's protocol. The text is cut into windows of `context` tokens (a rest is left out), the first token of
  /// each is replaced by `bos`, and the predictions of positions context/2 .. context-2 are scored.
  /// > 0: Hugging Face's protocol. Windows start every `stride` tokens and each token but the first of the text is
  /// scored once, in the first window that has it with a token before it; `bos` must be -1 here.
  int stride = 0;
  /// Token that opens each window, where the tokenizer adds one (add_bos); -1: none.
  std::int32_t bos = -1;
  /// Stop after so many windows; 0: all.
  std::int64_t max_windows = 0;
  /// Called after each window with the mean NLL so far. May be null; may throw to stop.
  std::function<void(std::int64_t done, std::int64_t total, double mean_nll)> progress;
  /// Asked before each window; true ends the run with the windows done so far, and `stopped` in the result. May be
  /// null. Stopped before the first window: Error(cancelled).
  std::function<bool()> stop;
  /// kl_divergence(): bytes of the reference's logits that may stay in memory; what is more lies in an unnamed file in
  /// the folder for temporary files until its window is compared.
  std::int64_t row_bytes = std::int64_t{256} << 20;
};

/// Mean of n samples and its standard error sqrt(variance / (n - 1)), as llama.cpp states it (0 for n < 2).
struct Estimate {
  double mean = 0;
  double error = 0;
};

struct PplResult {
  std::int64_t windows = 0;
  std::int64_t tokens = 0;  // scored
  int context = 0;
  int stride = 0;
  std::int32_t bos = -1;
  Estimate nll;                      // nats per token
  std::vector<BlockSum> window_nll;  // of each window: sum of NLL, tokens scored
  bool stopped = false;              // options.stop ended the run early
  /// exp(mean NLL), its error propagated to first order.
  double perplexity() const;
  double perplexity_error() const;
};

/// `ids` is the whole text, tokenized once (with BOS in front where the tokenizer adds one).
/// Errors: invalid_argument names the option (a context the model cannot hold, too little text, an id outside the
/// vocabulary); invalid_checkpoint when the model's logits are not finite.
PplResult perplexity(LogitSource& source, std::span<const std::int32_t> ids, const PplOptions& options);

struct DocumentOptions {
  std::int32_t bos = -1;     // put in front of each document; -1: nothing
  std::int64_t context = 0;  // documents are cut here, BOS counted; 0: source.max_context()
  /// Called after each document. May be null; may throw to stop.
  std::function<void(std::int64_t done, std::int64_t total, double mean_nll)> progress;
};

struct DocumentNll {
  std::int64_t tokens = 0;  // scored: all but the first of the sequence
  double nll = 0;           // sum over them
  bool cut = false;         // the document was longer than the context
};

struct DocumentResult {
  std::vector<DocumentNll> documents;  // in the order given
  std::int64_t tokens = 0;
  /// Mean over all scored tokens: the figure to compare. Long documents weigh more.
  Estimate nll;
  /// Mean over the documents' own means; documents with nothing to score are left out.
  double mean_of_documents = 0;
  double perplexity() const;
};

/// NLL of each document by itself, every token scored that has one before it. Errors as perplexity().
DocumentResult document_nll(LogitSource& source, std::span<const std::vector<std::int32_t>> documents,
                            const DocumentOptions& options);

/// What was seen at one scored position.
struct KlPosition {
  std::int32_t window = 0;  // counted from 0
  std::int32_t index = 0;   // in the window: how many tokens stand before the one whose prediction is scored
  double kl = 0;            // nats
  double delta_p = 0;       // probability of the next token of the text: candidate's minus reference's
  double reference_nll = 0, candidate_nll = 0;
  bool same_top = false;
};

struct KlResult {
  PplResult reference, candidate;  // on the very same positions
  Estimate kl;                     // nats per position, KL(reference || candidate)
  double max_kl = 0;
  /// Fraction of positions whose most likely token is the same (the lowest id of equal logits counts), and its error.
  Estimate same_top;
  std::vector<double> position_kl;    // (tokens) in the order of the text
  std::vector<KlPosition> positions;  // (tokens) likewise; quality_summary.h makes figures of them
};

/// How far `candidate` is from `reference` on the positions perplexity() scores: KL = sum of p (log p - log q).
/// Holds the reference's scored logits of one window (context/2 * vocab * 4 bytes, context in strided mode), in memory
/// as far as options.row_bytes allow.
/// Errors as perplexity(); different vocabularies are invalid_argument. The two sources must not share a Runner's pool
/// concurrently; they are run one after the other.
KlResult kl_divergence(LogitSource& reference, LogitSource& candidate, std::span<const std::int32_t> ids,
                       const PplOptions& options);

/// Protocol and figures, as `bittern eval --json` prints them.
Json to_json(const PplResult& result);
Json to_json(const DocumentResult& result);
Json to_json(const KlResult& result);

}  // namespace bittern::quant
