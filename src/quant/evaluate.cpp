// The order of the work: learn from quality.h which sequences it will run; run all of them through the original, one
// layer at a time; spill the logits it will ask for; run them through the written model the same way; and let
// kl_divergence() compare, with two sources that only look up what is there.
#include "quant/evaluate.h"

#include <bittern/error.h>

#include <malloc.h>

#include <algorithm>
#include <chrono>
#include <ranges>

#include "base/check.h"
#include "models/layerwise.h"
#include "quant/calibrated_model.h"
#include "quant/quality.h"
#include "quant/quality_summary.h"
#include "quant/spill.h"

namespace bittern::quant {
namespace {

constexpr std::int64_t kLeastTokens = 2048, kMostTokens = 8192;
constexpr std::size_t kRows = 64;  // of logits in one call

/// A few minutes for two passes on two cores: 2,048 tokens of 7 billion parameters, and 8,192 of 2 billion or less.
std::int64_t default_tokens(std::int64_t parameters) {
  constexpr std::int64_t kWork = 15'000'000'000'000;
  return std::clamp(kWork / std::max<std::int64_t>(parameters, 1), kLeastTokens, kMostTokens);
}

/// A sequence as a metric runs it, and the positions whose logits it wants.
struct Sequence {
  std::vector<std::int32_t> tokens;
  std::vector<std::int32_t> wanted;
};

/// Notes what a metric would run, and gives no logits.
class Recorder final : public LogitSource {
 public:
  explicit Recorder(const ModelConfig& config) : config_(config) {}
  void run(std::span<const std::int32_t> tokens, const std::vector<bool>& want, const Sink&) override {
    Sequence sequence;
    sequence.tokens.assign(tokens.begin(), tokens.end());
    for (std::size_t i = 0; i < want.size(); ++i) {
      if (want[i]) sequence.wanted.push_back(static_cast<std::int32_t>(i));
    }
    sequences.push_back(std::move(sequence));
  }
  std::int64_t vocab() const override { return config_.vocab; }
  std::int64_t max_context() const override { return config_.max_positions; }

  std::vector<Sequence> sequences;

 private:
  const ModelConfig& config_;
};

PplOptions ppl_options(const QuantizePlan& plan, const Evaluation& evaluation) {
  PplOptions options;
  options.context = static_cast<int>(plan.evaluation_context);
  options.bos = evaluation.bos;
  options.max_windows = plan.evaluation_windows;
  return options;
}

std::vector<Sequence> sequences_of(const ModelConfig& config, const QuantizePlan& plan, const Evaluation& evaluation) {
  Recorder recorder(config);
  perplexity(recorder, evaluation.text, ppl_options(plan, evaluation));
  return std::move(recorder.sequences);
}

/// Hands out logits of sequences in the order in which the recorder saw them.
class ReplayedSource : public LogitSource {
 public:
  ReplayedSource(const std::vector<Sequence>& sequences, const ModelConfig& config)
      : sequences_(sequences), vocab_(config.vocab), context_(config.max_positions) {}
  void run(std::span<const std::int32_t> tokens, const std::vector<bool>&, const Sink& sink) override {
    BITTERN_CHECK(next_ < sequences_.size() && std::ranges::equal(tokens, sequences_[next_].tokens),
                  "the metric runs other sequences than it did when they were noted");
    replay(next_++, sink);
  }
  std::int64_t vocab() const override { return vocab_; }
  std::int64_t max_context() const override { return context_; }

 protected:
  virtual void replay(std::size_t sequence, const Sink& sink) = 0;

  const std::vector<Sequence>& sequences_;
  const std::int64_t vocab_;

 private:
  const std::int64_t context_;
  std::size_t next_ = 0;
};

class SpilledSource final : public ReplayedSource {
 public:
  SpilledSource(const std::vector<Sequence>& sequences, const ModelConfig& config, const Spill& spill)
      : ReplayedSource(sequences, config), spill_(spill), row_(static_cast<std::size_t>(config.vocab)) {}

 private:
  void replay(std::size_t sequence, const Sink& sink) override {
    for (const std::int32_t position : sequences_[sequence].wanted) {
      spill_.read(read_, row_);
      read_ += vocab_;
      sink(position, row_);
    }
  }

  const Spill& spill_;
  std::vector<float> row_;
  std::int64_t read_ = 0;
};

std::unique_ptr<Backend> make_cpu(int threads) {
  BackendOptions options;
  options.threads = threads;
  return make_backend("cpu", options);
}

/// Memory that a layer left must not add to the next one's (quantize.cpp says why).
void return_free_memory() {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

/// One model and the hidden states of all sequences: after run_layers() its logits can be asked for.
class StreamedModel {
 public:
  StreamedModel(const std::shared_ptr<const ModelFiles>& files, const std::vector<Sequence>& sequences, int threads)
      : backend_(make_cpu(threads)), model_(files, *backend_), sequences_(sequences) {
    for (const Sequence& sequence : sequences) longest_ = std::max(longest_, std::ssize(sequence.tokens));
    pass_ = std::make_unique<LayerwisePass>(model_, static_cast<int>(longest_), 1);
    hidden_.resize(static_cast<std::size_t>(std::ssize(sequences) * longest_ * model_.config().hidden));
  }

  const ModelConfig& config() const { return model_.config(); }

  template <class Step>
  void run_layers(const Step& step) {
    model_.load_outside();
    for (std::size_t s = 0; s < sequences_.size(); ++s) {
      select(s);
      pass_->embed(sequences_[s].tokens, hidden(s));
    }
    model_.drop_outside();
    for (int layer = 0; layer < config().layers; ++layer) {
      return_free_memory();
      model_.load_layer(layer);
      for (std::size_t s = 0; s < sequences_.size(); ++s) {
        select(s);
        pass_->forward_layer(layer, hidden(s));
      }
      model_.drop_layer(layer);
      step();
    }
    return_free_memory();
    model_.load_outside();
  }

  void logits(std::size_t s, const LogitSource::Sink& sink) {
    select(s);
    const auto vocab = static_cast<std::size_t>(config().vocab);
    std::span<const std::int32_t> wanted = sequences_[s].wanted;
    while (!wanted.empty()) {
      const auto rows = wanted.first(std::min(kRows, wanted.size()));
      const std::span<const float> values = pass_->logits(hidden(s), rows);
      for (std::size_t i = 0; i < rows.size(); ++i) sink(rows[i], values.subspan(i * vocab, vocab));
      wanted = wanted.subspan(rows.size());
    }
  }

 private:
  void select(std::size_t s) {
    const auto length = static_cast<std::int32_t>(sequences_[s].tokens.size());
    pass_->set_sequences({&length, 1});
  }
  float* hidden(std::size_t s) { return hidden_.data() + static_cast<std::ptrdiff_t>(s) * longest_ * config().hidden; }

  std::unique_ptr<Backend> backend_;
  LayerwiseModel model_;
  const std::vector<Sequence>& sequences_;
  std::ptrdiff_t longest_ = 0;
  std::unique_ptr<LayerwisePass> pass_;
  std::vector<float> hidden_;
};

class StreamedSource final : public ReplayedSource {
 public:
  StreamedSource(const std::vector<Sequence>& sequences, StreamedModel& model)
      : ReplayedSource(sequences, model.config()), model_(model) {}

 private:
  void replay(std::size_t sequence, const Sink& sink) override { model_.logits(sequence, sink); }

  StreamedModel& model_;
};

QualityReport to_report(const KlResult& result, const Evaluation& evaluation) {
  QualityReport report;
  report.name = evaluation.name;
  report.sha256 = evaluation.sha256;
  report.context = result.candidate.context;
  report.windows = result.candidate.windows;
  report.bos = result.candidate.bos;
  report.tokens = result.candidate.tokens;
  report.reference_perplexity = result.reference.perplexity();
  report.reference_perplexity_error = result.reference.perplexity_error();
  report.perplexity = result.candidate.perplexity();
  report.perplexity_error = result.candidate.perplexity_error();
  report.kl = result.kl.mean;
  report.kl_error = result.kl.error;
  report.kl_max = result.max_kl;
  for (const Percentile& percentile : std::views::reverse(summarize(result, {}, 0).kl_percentiles)) {
    if (percentile.fraction >= 0.5) report.kl_percentiles.push_back({100 * percentile.fraction, percentile.value});
  }
  report.same_top = result.same_top.mean;
  report.same_top_error = result.same_top.error;
  return report;
}

std::int64_t outside_bytes(const Job& job) {
  std::int64_t bytes = 0;
  for (const TensorEntry& entry : job.outside) bytes += static_cast<std::int64_t>(entry.bytes);
  return bytes;
}

/// Of one layer: what is mapped and its packing, which is as large, or f32 where a format fits no kernel.
std::int64_t layer_bytes(const Job& job) {
  std::int64_t most = 0;
  for (const LayerJob& layer : job.layers) {
    std::int64_t written = 0, parameters = 0;
    for (const LinearTask& linear : layer.linears) {
      parameters += linear.out * linear.in;
      for (const TensorSpec& spec : linear.scheme->tensors(linear, job.plan.group_size)) written += spec.bytes();
    }
    most = std::max({most, 2 * layer.source_bytes, written + 4 * parameters});
  }
  return most;
}

/// Hidden states, arena and pool; `tokens` of one window.
std::int64_t pass_bytes(const ModelConfig& config, std::int64_t windows, std::int64_t tokens) {
  Calibration same;  // a model under calibration holds the same for as many sequences
  same.sequences.assign(static_cast<std::size_t>(windows), std::vector<std::int32_t>(static_cast<std::size_t>(tokens)));
  same.search_tokens = 0;
  return CalibratedModel::planned_bytes(config, same);
}

}  // namespace

void plan_evaluation(Job& job, const ModelConfig& config, const Evaluation& evaluation) {
  if (evaluation.text.empty()) return;
  const auto invalid = [](const std::string& message) {
    throw Error(ErrorCode::invalid_argument, "evaluation: " + message);
  };
  QuantizePlan& plan = job.plan;
  if (evaluation.tokens < 0) invalid("tokens is " + std::to_string(evaluation.tokens));
  plan.evaluation_name = evaluation.name;
  plan.evaluation_context = std::min<std::int64_t>(evaluation.context, config.max_positions);
  const std::int64_t wanted = evaluation.tokens > 0 ? evaluation.tokens : default_tokens(plan.parameters);
  plan.evaluation_windows = std::max<std::int64_t>(wanted / std::max<std::int64_t>(plan.evaluation_context, 1), 1);
  const std::vector<Sequence> sequences = sequences_of(config, plan, evaluation);
  plan.evaluation_windows = std::ssize(sequences);
  std::int64_t scored = 0, of_window = 0;
  for (const Sequence& sequence : sequences) {
    of_window = std::ssize(sequence.wanted);
    scored += of_window;
  }
  plan.evaluation_disk_bytes = scored * config.vocab * 4;
  const std::int64_t logits = (of_window + static_cast<std::int64_t>(kRows) + 1) * config.vocab * 4;
  const std::int64_t bytes = pass_bytes(config, plan.evaluation_windows, plan.evaluation_context) +
                             std::max(layer_bytes(job), 2 * outside_bytes(job) + logits);
  if (bytes <= plan.peak_bytes) return;
  plan.peak_bytes = bytes;
  plan.peak_at = "the evaluation";
}

QualityReport evaluate_output(const std::shared_ptr<const ModelFiles>& original, const QuantizePlan& plan,
                              const Evaluation& evaluation, int threads,
                              const std::function<void(std::int64_t, std::int64_t)>& progress) {
  const auto start = std::chrono::steady_clock::now();
  const ModelConfig config = load_config(*original);
  const std::vector<Sequence> sequences = sequences_of(config, plan, evaluation);
  std::int64_t done = 0;
  const std::int64_t total = 2LL * config.layers + std::ssize(sequences);
  const auto step = [&] { progress(++done, total); };

  Spill spill(std::filesystem::absolute(plan.output / "..").lexically_normal());
  {
    StreamedModel reference(original, sequences, threads);
    reference.run_layers(step);
    for (std::size_t s = 0; s < sequences.size(); ++s)
      reference.logits(s, [&](std::int64_t, std::span<const float> logits) { spill.append(logits); });
  }
  StreamedModel written(ModelFiles::from_directory(plan.output), sequences, threads);
  written.run_layers(step);
  SpilledSource expected(sequences, config, spill);
  StreamedSource actual(sequences, written);
  PplOptions options = ppl_options(plan, evaluation);
  options.progress = [&](std::int64_t, std::int64_t, double) { step(); };
  QualityReport report = to_report(kl_divergence(expected, actual, evaluation.text, options), evaluation);
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

}  // namespace bittern::quant
