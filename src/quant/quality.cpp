// Perplexity, document NLL and KL divergence: which positions of which windows are scored, and the exact sums.
// The three metrics share one list of windows and one log-softmax; none of them knows what produced the logits.
#include "quant/quality.h"

#include <bittern/error.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <string>

#include "quant/spill.h"

namespace bittern::quant {
namespace {

/// Tokens [begin, end) of the text run as one sequence; position p in [first, end - 1) is scored on predicting p + 1.
struct Window {
  std::int64_t begin, end, first;
};

/// Running mean and spread (Welford), so that a million terms lose nothing to cancellation.
class Accumulator {
 public:
  void add(double x) {
    ++count_;
    const double delta = x - mean_;
    mean_ += delta / static_cast<double>(count_);
    squares_ += delta * (x - mean_);
  }
  double mean() const { return mean_; }
  std::int64_t count() const { return count_; }
  Estimate estimate() const {
    const auto n = static_cast<double>(count_);
    return {mean_, count_ < 2 ? 0.0 : std::sqrt(squares_ / n / (n - 1))};
  }

 private:
  std::int64_t count_ = 0;
  double mean_ = 0, squares_ = 0;
};

[[noreturn]] void invalid(std::string message, std::string hint = {}) {
  throw Error(ErrorCode::invalid_argument, std::move(message), std::move(hint));
}

void check_ids(std::span<const std::int32_t> ids, std::int64_t vocab, const std::string& what) {
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= vocab) {
      invalid("token " + std::to_string(i) + " of " + what + " has id " + std::to_string(ids[i]) +
                  ", the model's vocabulary has " + std::to_string(vocab) + " entries",
              "use the tokenizer that belongs to the model");
    }
  }
}

void check_context(std::int64_t context, std::int64_t least, const LogitSource& source) {
  if (context < least) invalid("context is " + std::to_string(context) + ", the least is " + std::to_string(least));
  if (context > source.max_context()) {
    invalid("context is " + std::to_string(context) + ", this model with its KV cache holds " +
                std::to_string(source.max_context()) + " tokens",
            "choose a smaller context");
  }
}

void check_bos(std::int32_t bos, std::int64_t vocab) {
  if (bos < -1 || bos >= vocab) {
    invalid("bos is " + std::to_string(bos) + ", it must be -1 (none) or an id below " + std::to_string(vocab));
  }
}

void check_options(const LogitSource& source, std::span<const std::int32_t> ids, const PplOptions& options) {
  check_context(options.context, 4, source);  // half a window of 2 tokens would score nothing
  check_bos(options.bos, source.vocab());
  check_ids(ids, source.vocab(), "the text");
  if (options.stride < 0 || options.stride > options.context) {
    invalid("stride is " + std::to_string(options.stride) + ", it must be 0 (windows scored in their second half) to " +
            "the context of " + std::to_string(options.context));
  }
  if (options.stride > 0 && options.bos >= 0) {
    invalid("bos cannot be combined with stride", "the strided protocol opens no window with BOS; leave bos at -1");
  }
  if (options.max_windows < 0) invalid("max_windows is " + std::to_string(options.max_windows));
}

/// llama.cpp: whole windows side by side, scored where at least half a window precedes.
std::vector<Window> side_by_side(std::int64_t tokens, std::int64_t context) {
  std::vector<Window> windows;
  for (std::int64_t begin = 0; begin + context <= tokens; begin += context) {
    windows.push_back({begin, begin + context, begin + context / 2});
  }
  if (windows.empty()) {
    invalid("the text has " + std::to_string(tokens) + " tokens, one window takes " + std::to_string(context),
            "give a longer text or a smaller context");
  }
  return windows;
}

/// Hugging Face: overlapping windows; a window scores the tokens that no window before it reached.
std::vector<Window> strided(std::int64_t tokens, std::int64_t context, std::int64_t stride) {
  if (tokens < 2) invalid("the text has " + std::to_string(tokens) + " tokens, scoring takes at least 2");
  std::vector<Window> windows;
  std::int64_t reached = 0;
  for (std::int64_t begin = 0; reached < tokens; begin += stride) {
    const std::int64_t end = std::min(begin + context, tokens);
    const Window window{begin, end, std::max(reached, begin + 1) - 1};
    if (window.first + 1 < end) windows.push_back(window);
    reached = end;
  }
  return windows;
}

std::vector<Window> make_windows(std::int64_t tokens, const PplOptions& options) {
  auto windows =
      options.stride > 0 ? strided(tokens, options.context, options.stride) : side_by_side(tokens, options.context);
  if (options.max_windows > 0 && std::ssize(windows) > options.max_windows) {
    windows.resize(static_cast<std::size_t>(options.max_windows));
  }
  return windows;
}

/// The tokens of a window as the model sees them.
std::vector<std::int32_t> window_tokens(std::span<const std::int32_t> ids, const Window& window, std::int32_t bos) {
  std::vector<std::int32_t> tokens(ids.begin() + window.begin, ids.begin() + window.end);
  if (bos >= 0) tokens.front() = bos;
  return tokens;
}

[[noreturn]] void not_finite(const std::string& where) {
  throw Error(ErrorCode::invalid_checkpoint, "the model's logits " + where + " are not finite",
              "its weights are damaged, or a scale overflowed when they were quantized");
}

std::string at_token(std::int64_t position) { return "at token " + std::to_string(position) + " of the text"; }

/// NLL of `next`; `position` is for the message.
double nll_of(std::span<const float> logits, double normalizer, std::int32_t next, std::int64_t position) {
  const double nll = normalizer - static_cast<double>(logits[static_cast<std::size_t>(next)]);
  if (!std::isfinite(nll)) not_finite(at_token(position));
  return nll;
}

using PositionSink = std::function<void(std::int64_t position, std::span<const float> logits)>;

/// Runs one window and hands out the logits of its scored positions, counted from the start of the text.
void run_window(LogitSource& source, std::span<const std::int32_t> ids, const Window& window, std::int32_t bos,
                const PositionSink& sink) {
  const auto tokens = window_tokens(ids, window, bos);
  std::vector<bool> want(tokens.size(), false);
  for (std::int64_t p = window.first; p < window.end - 1; ++p) want[static_cast<std::size_t>(p - window.begin)] = true;
  source.run(tokens, want,
             [&](std::int64_t index, std::span<const float> logits) { sink(window.begin + index, logits); });
}

/// NLL of all tokens, and of each window by itself.
struct NllSums {
  Accumulator all;
  std::vector<BlockSum> windows;

  void add(double nll) {
    all.add(nll);
    windows.back().sum += nll;
    windows.back().weight += 1;
  }
};

PplResult ppl_result(const PplOptions& options, const NllSums& nll, bool stopped) {
  return {.windows = std::ssize(nll.windows),
          .tokens = nll.all.count(),
          .context = options.context,
          .stride = options.stride,
          .bos = options.bos,
          .nll = nll.all.estimate(),
          .window_nll = nll.windows,
          .stopped = stopped};
}

/// Whether to end before window w; nothing to show for it is an error.
bool stop_before(std::size_t w, const PplOptions& options) {
  if (!options.stop || !options.stop()) return false;
  if (w == 0) throw Error(ErrorCode::cancelled, "stopped before the first window was done");
  return true;
}

std::size_t argmax(std::span<const float> logits) {
  return static_cast<std::size_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

/// Sums of one comparison, fed position by position.
struct KlSums {
  NllSums reference_nll, candidate_nll;
  Accumulator kl, same_top;
  double max_kl = 0;
  std::vector<KlPosition> positions;

  void open_window() {
    reference_nll.windows.emplace_back();
    candidate_nll.windows.emplace_back();
  }

  /// `index` counts from the start of the window, `position` from that of the text.
  void add(std::span<const float> p, std::span<const float> q, std::int32_t next, std::int64_t index,
           std::int64_t position) {
    const double log_zp = log_sum_exp(p), log_zq = log_sum_exp(q);
    KlPosition seen{static_cast<std::int32_t>(reference_nll.windows.size()) - 1, static_cast<std::int32_t>(index)};
    seen.reference_nll = nll_of(p, log_zp, next, position);
    seen.candidate_nll = nll_of(q, log_zq, next, position);
    seen.delta_p = std::exp(-seen.candidate_nll) - std::exp(-seen.reference_nll);
    seen.kl = divergence(p, q, log_zp, log_zq, position);
    seen.same_top = argmax(p) == argmax(q);
    add(seen);
  }

 private:
  static double divergence(std::span<const float> p, std::span<const float> q, double log_zp, double log_zq,
                           std::int64_t position) {
    double sum = 0;
    for (std::size_t i = 0; i < p.size(); ++i) {
      const double log_p = p[i] - log_zp, log_q = q[i] - log_zq;
      sum += std::exp(log_p) * (log_p - log_q);
    }
    if (!std::isfinite(sum)) not_finite(at_token(position));
    return sum;
  }

  void add(const KlPosition& seen) {
    reference_nll.add(seen.reference_nll);
    candidate_nll.add(seen.candidate_nll);
    kl.add(seen.kl);
    max_kl = std::max(max_kl, seen.kl);
    same_top.add(seen.same_top ? 1.0 : 0.0);
    positions.push_back(seen);
  }
};

/// Logits of the reference at the scored positions of one window, row after row: in memory while they fit, then on
/// disk.
class RowStore {
 public:
  explicit RowStore(std::int64_t most_bytes) : most_(most_bytes / static_cast<std::int64_t>(sizeof(float))) {}

  void clear() {
    memory_.clear();
    disk_.reset();
    memory_rows_ = 0;
  }

  void append(std::span<const float> row) {
    width_ = row.size();
    if (!disk_ && std::ssize(memory_) + std::ssize(row) <= most_) {
      memory_.insert(memory_.end(), row.begin(), row.end());
      ++memory_rows_;
      return;
    }
    if (!disk_) disk_ = std::make_unique<Spill>(std::filesystem::temp_directory_path());
    disk_->append(row);
  }

  /// Valid until the next call.
  std::span<const float> row(std::size_t index) {
    if (index < memory_rows_) return std::span(memory_).subspan(index * width_, width_);
    read_.resize(width_);
    disk_->read(static_cast<std::int64_t>((index - memory_rows_) * width_), read_);
    return read_;
  }

 private:
  std::int64_t most_;
  std::size_t width_ = 0, memory_rows_ = 0;
  std::vector<float> memory_, read_;
  std::unique_ptr<Spill> disk_;
};

void collect_window(LogitSource& source, std::span<const std::int32_t> ids, const Window& window, std::int32_t bos,
                    RowStore& rows) {
  rows.clear();
  run_window(source, ids, window, bos, [&](std::int64_t, std::span<const float> logits) { rows.append(logits); });
}

void compare_window(LogitSource& candidate, std::span<const std::int32_t> ids, const Window& window, std::int32_t bos,
                    RowStore& rows, KlSums& sums) {
  std::size_t row = 0;
  sums.open_window();
  run_window(candidate, ids, window, bos, [&](std::int64_t position, std::span<const float> logits) {
    sums.add(rows.row(row++), logits, ids[static_cast<std::size_t>(position) + 1], position - window.begin, position);
  });
}

KlResult kl_result(const PplOptions& options, KlSums sums, bool stopped) {
  KlResult result{.reference = ppl_result(options, sums.reference_nll, stopped),
                  .candidate = ppl_result(options, sums.candidate_nll, stopped),
                  .kl = sums.kl.estimate(),
                  .max_kl = sums.max_kl,
                  .same_top = sums.same_top.estimate(),
                  .position_kl = {},
                  .positions = std::move(sums.positions)};
  for (const KlPosition& position : result.positions) result.position_kl.push_back(position.kl);
  return result;
}

/// Scores one document into `all`; the sequence is never longer than `context`.
DocumentNll score_document(LogitSource& source, const std::vector<std::int32_t>& document, std::int32_t bos,
                           std::int64_t context, Accumulator& all) {
  std::vector<std::int32_t> tokens;
  if (bos >= 0) tokens.push_back(bos);
  tokens.insert(tokens.end(), document.begin(), document.end());
  DocumentNll result;
  result.cut = std::ssize(tokens) > context;
  if (result.cut) tokens.resize(static_cast<std::size_t>(context));
  if (tokens.size() < 2) return result;
  run_window(source, tokens, {0, std::ssize(tokens), 0}, -1, [&](std::int64_t position, std::span<const float> logits) {
    const double nll = nll_of(logits, log_sum_exp(logits), tokens[static_cast<std::size_t>(position) + 1], position);
    result.nll += nll;
    all.add(nll);
  });
  result.tokens = std::ssize(tokens) - 1;
  return result;
}

double mean_over_documents(const std::vector<DocumentNll>& documents) {
  Accumulator means;
  for (const auto& document : documents) {
    if (document.tokens > 0) means.add(document.nll / static_cast<double>(document.tokens));
  }
  return means.mean();
}

}  // namespace

double log_sum_exp(std::span<const float> logits) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - largest);
  return largest + std::log(sum);
}

double token_nll(std::span<const float> logits, std::int32_t id, const std::string& where) {
  const double nll = log_sum_exp(logits) - static_cast<double>(logits[static_cast<std::size_t>(id)]);
  if (!std::isfinite(nll)) not_finite(where);
  return nll;
}

double PplResult::perplexity() const { return std::exp(nll.mean); }
double PplResult::perplexity_error() const { return nll.error * perplexity(); }
double DocumentResult::perplexity() const { return std::exp(nll.mean); }

PplResult perplexity(LogitSource& source, std::span<const std::int32_t> ids, const PplOptions& options) {
  check_options(source, ids, options);
  const auto windows = make_windows(std::ssize(ids), options);
  NllSums nll;
  bool stopped = false;
  for (std::size_t w = 0; w < windows.size() && !(stopped = stop_before(w, options)); ++w) {
    nll.windows.emplace_back();
    run_window(source, ids, windows[w], options.bos, [&](std::int64_t position, std::span<const float> logits) {
      nll.add(nll_of(logits, log_sum_exp(logits), ids[static_cast<std::size_t>(position) + 1], position));
    });
    if (options.progress) options.progress(static_cast<std::int64_t>(w + 1), std::ssize(windows), nll.all.mean());
  }
  return ppl_result(options, nll, stopped);
}

DocumentResult document_nll(LogitSource& source, std::span<const std::vector<std::int32_t>> documents,
                            const DocumentOptions& options) {
  const std::int64_t context = options.context == 0 ? source.max_context() : options.context;
  check_context(context, 2, source);
  check_bos(options.bos, source.vocab());
  Accumulator all;
  DocumentResult result;
  for (const auto& document : documents) {
    check_ids(document, source.vocab(), "document " + std::to_string(result.documents.size()));
    result.documents.push_back(score_document(source, document, options.bos, context, all));
    if (options.progress) options.progress(std::ssize(result.documents), std::ssize(documents), all.mean());
  }
  if (all.count() == 0) invalid("no document has a token to score", "give documents of two tokens or more, or a BOS");
  result.tokens = all.count();
  result.nll = all.estimate();
  result.mean_of_documents = mean_over_documents(result.documents);
  return result;
}

KlResult kl_divergence(LogitSource& reference, LogitSource& candidate, std::span<const std::int32_t> ids,
                       const PplOptions& options) {
  if (reference.vocab() != candidate.vocab()) {
    invalid("the reference has " + std::to_string(reference.vocab()) + " logits, the candidate " +
                std::to_string(candidate.vocab()),
            "only models with the same vocabulary can be compared");
  }
  check_options(reference, ids, options);
  check_context(options.context, 4, candidate);
  const auto windows = make_windows(std::ssize(ids), options);
  KlSums sums;
  RowStore rows(options.row_bytes);
  bool stopped = false;
  for (std::size_t w = 0; w < windows.size() && !(stopped = stop_before(w, options)); ++w) {
    collect_window(reference, ids, windows[w], options.bos, rows);
    compare_window(candidate, ids, windows[w], options.bos, rows, sums);
    if (options.progress) {
      options.progress(static_cast<std::int64_t>(w + 1), std::ssize(windows), sums.candidate_nll.all.mean());
    }
  }
  return kl_result(options, std::move(sums), stopped);
}

}  // namespace bittern::quant
