// Decision: which way to run a model, out of what was measured of several. The rule is the advice users of W4A16 and
// quantized KV caches are given, made exact: take the model as it is, then quantize its KV cache, then its weights,
// then both; look at the quality after each step, and step back where it falls below the bar. Nothing is measured here.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/fields.h"

namespace bittern::quant {

/// throughput: tokens/s of many sequences at once; latency: tokens/s of one; memory: the least of it.
enum class Objective { throughput, latency, memory };

/// The most that may be lost against the model as it is.
struct QualityBar {
  double max_kl = 0.02;         // mean KL divergence, nats per token
  double min_same_top = 0.95;   // fraction of positions with the same most likely token
  double max_task_drop = 0.02;  // of the fraction of tasks answered rightly
  double max_recall_drop = 0.02;
  double max_repeat_rise = 0.05;  // of the share of a long generation that repeats what it said before
};
/// "strict", "balanced" or "loose"; or bars by name, those left out as in "balanced": "kl=0.01,top1=0.97,tasks=0.01,
/// recall=0.05,repeat=0.1". Error(invalid_argument) names what it cannot read.
QualityBar quality_bar_from_text(std::string_view text);
/// As quality_bar_from_text() reads it.
std::string to_text(const QualityBar& bar);

/// A way to run the model. An empty name means: as the checkpoint has it.
struct Candidate {
  std::string weights;  // of a quantization, "w4a16-awq-g128"
  std::string kv;       // of a KV precision, "int8"

  template <class V>
  void fields(V&& v) {
    v("weights", weights);
    v("kv", kv);
  }
  bool operator==(const Candidate&) const = default;
  bool plain() const { return weights.empty() && kv.empty(); }
  /// "plain", "kv int8", "w4a16-awq-g128", "w4a16-awq-g128 + kv int8".
  std::string name() const;
};

struct Measured {
  Candidate candidate = {};
  // Quality: against plain, on the same text; the fractions (tasks solved, needles
  // recalled, long generation that repeats itself) are this candidate's own.
  double kl = 0, same_top = 1;
  std::optional<double> tasks = {}, recall = {}, repeat = {};
  // Told, and no part of the rule: the 95 % interval of KL, the perplexity of the text, and how many tokens of a long
  // generation are plain's before the first that is not, on average.
  std::optional<double> kl_low = {}, kl_high = {}, perplexity = {}, agreement = {};
  // Memory in bytes; `peak` is what the process takes with the context and the sequences that were asked for.
  std::int64_t weight_bytes = 0, kv_bytes = 0, peak_bytes = 0;
  // Tokens per second: of a prompt, of one sequence, of many at once together.
  double prefill = 0, decode = 0, batched = 0;

  template <class V>
  void fields(V&& v) {
    v("candidate", candidate);
    v("kl", kl);
    v("kl_low", kl_low);
    v("kl_high", kl_high);
    v("same_top", same_top);
    v("perplexity", perplexity);
    v("tasks", tasks);
    v("recall", recall);
    v("repeat", repeat);
    v("agreement", agreement);
    v("weight_bytes", weight_bytes);
    v("kv_bytes", kv_bytes);
    v("peak_bytes", peak_bytes);
    v("prefill", prefill);
    v("decode", decode);
    v("batched", batched);
  }
};

/// Why `measured` is below the bar, one sentence a bar it misses; empty when it passes.
std::vector<std::string> failures(const Measured& measured, const Measured& plain, const QualityBar& bar);

struct DecisionOptions {
  QualityBar bar = {};
  std::int64_t memory_limit = 0;  // of peak_bytes; 0: none
  Objective objective = Objective::throughput;
  std::vector<std::string> kv = {};       // KV precisions to try, in order
  std::vector<std::string> weights = {};  // quantizations to try, in order
  /// Speeds closer than this fraction count as equal, and then what comes earlier in the steps wins: it loses less.
  double speed_margin = 0.03;
};

/// One line of the path that the rule took.
struct DecisionStep {
  Candidate candidate;
  enum class Outcome { passed, failed, skipped } outcome = Outcome::passed;
  std::string reason;
  /// "kept", "stepped back" or "not tried".
  std::string_view outcome_name() const;
};

/// The four steps. Feed it measurements until next() has nothing more to ask for:
///   while (auto candidate = decision.next()) decision.add(measure(*candidate));
class Decision {
 public:
  /// Error(invalid_argument) for a name given twice or an empty one.
  explicit Decision(DecisionOptions options);

  /// What to measure next; nothing when the rule has ended.
  std::optional<Candidate> next();
  /// The measurement of what next() named.
  void add(Measured measured);

  const DecisionOptions& options() const { return options_; }
  const std::vector<DecisionStep>& path() const { return path_; }
  const std::vector<Measured>& measured() const { return measured_; }
  /// Whether a measured candidate passes the bar, and whether it fits the memory limit.
  bool passes(const Measured& measured) const;
  bool fits(const Measured& measured) const;
  /// The best of those that pass and fit, by the objective; null when there is none.
  const Measured* recommended() const;
  /// Why that one, or why none: what stands in the way, and the nearest ways out.
  std::string reason() const;
  /// Those that no other beats in quality, memory and the speed of the objective at once.
  std::vector<const Measured*> pareto() const;

 private:
  const Measured* find(const Candidate& candidate) const;
  bool passed_alone(const Candidate& candidate, std::string& reason) const;
  bool better(const Measured& a, const Measured& b) const;
  std::string why_none() const;

  DecisionOptions options_;
  std::vector<Candidate> order_;
  std::size_t next_ = 0;
  std::vector<Measured> measured_;
  std::vector<DecisionStep> path_;
};

/// The figure an objective looks at: larger is better (memory is counted below zero).
double merit(const Measured& measured, Objective objective);

}  // namespace bittern::quant

template <>
struct bittern::EnumNames<bittern::quant::Objective> {
  static constexpr std::pair<bittern::quant::Objective, std::string_view> values[] = {
      {bittern::quant::Objective::throughput, "throughput"},
      {bittern::quant::Objective::latency, "latency"},
      {bittern::quant::Objective::memory, "memory"}};
};
