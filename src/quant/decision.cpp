// The order of the steps, the bars, and the choice among what is left.
#include "quant/decision.h"

#include <bittern/error.h>
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <set>

#include "base/check.h"
#include "base/strings.h"

namespace bittern::quant {
namespace {

struct NamedBar {
  std::string_view name;
  QualityBar bar;
};
constexpr std::array<NamedBar, 3> kBars = {
    {{"strict", {0.005, 0.98, 0.01, 0.01, 0.02}}, {"balanced", {}}, {"loose", {0.1, 0.90, 0.05, 0.05, 0.1}}}};

struct BarField {
  std::string_view name;
  double QualityBar::*field;
  double most;
};
constexpr std::array<BarField, 5> kFields = {{{"kl", &QualityBar::max_kl, 100},
                                              {"top1", &QualityBar::min_same_top, 1},
                                              {"tasks", &QualityBar::max_task_drop, 1},
                                              {"recall", &QualityBar::max_recall_drop, 1},
                                              {"repeat", &QualityBar::max_repeat_rise, 1}}};

std::vector<std::string_view> bar_words() {
  std::vector<std::string_view> words;
  for (const NamedBar& bar : kBars) words.push_back(bar.name);
  for (const BarField& field : kFields) words.push_back(field.name);
  return words;
}

[[noreturn]] void refuse_bar(std::string_view part, const std::string& why) {
  throw Error(ErrorCode::invalid_argument, fmt::format("quality bar '{}': {}", part, why),
              "give strict, balanced or loose, or bars such as kl=0.01,top1=0.97,tasks=0.02,recall=0.02,repeat=0.05");
}

void set_bar(QualityBar& bar, std::string_view part) {
  const std::size_t equals = part.find('=');
  const std::string_view name = part.substr(0, equals);
  const auto field = std::ranges::find(kFields, name, &BarField::name);
  if (field == kFields.end() || equals == std::string_view::npos)
    refuse_bar(part, "no such bar" + did_you_mean(name, bar_words()));
  const std::string_view text = part.substr(equals + 1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !(value >= 0 && value <= field->most))
    refuse_bar(part, fmt::format("not a number from 0 to {}", field->most));
  bar.*field->field = value;
}

std::string percent(double fraction) { return fmt::format("{:.1f} %", 100 * fraction); }

/// The sentence on a fraction that may have dropped, "" when it has not dropped too far or was not measured.
std::string drop(std::string_view what, std::optional<double> now, std::optional<double> before, double most) {
  if (!now || !before || *before - *now <= most) return "";
  return fmt::format("{} fell from {} to {}, by more than {}", what, percent(*before), percent(*now), percent(most));
}

std::string joined(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : "; ") + part;
  return text;
}

std::string gigabytes(std::int64_t bytes) { return human_bytes(static_cast<std::uint64_t>(bytes)); }

std::string_view merit_words(Objective objective) {
  switch (objective) {
    case Objective::throughput: return "the most tokens per second over many sequences";
    case Objective::latency: return "the most tokens per second of one sequence";
    case Objective::memory: return "the least memory";
  }
  return "";
}

void check_names(const std::vector<std::string>& names, std::string_view what) {
  std::set<std::string_view> seen;
  for (const std::string& name : names) {
    if (name.empty()) throw Error(ErrorCode::invalid_argument, fmt::format("an empty name among the {}", what));
    if (!seen.insert(name).second)
      throw Error(ErrorCode::invalid_argument, fmt::format("{} is twice among the {}", name, what));
  }
}

}  // namespace

QualityBar quality_bar_from_text(std::string_view text) {
  const auto named = std::ranges::find(kBars, text, &NamedBar::name);
  if (named != kBars.end()) return named->bar;
  QualityBar bar;
  for (const std::string_view part : split(text, ',')) set_bar(bar, part);
  return bar;
}

std::string to_text(const QualityBar& bar) {
  std::string text;
  for (const BarField& field : kFields)
    text += fmt::format("{}{}={}", text.empty() ? "" : ",", field.name, bar.*field.field);
  return text;
}

std::string Candidate::name() const {
  if (plain()) return "plain";
  if (weights.empty()) return "kv " + kv;
  return kv.empty() ? weights : weights + " + kv " + kv;
}

std::string_view DecisionStep::outcome_name() const {
  switch (outcome) {
    case DecisionStep::Outcome::passed: return "kept";
    case DecisionStep::Outcome::failed: return "stepped back";
    case DecisionStep::Outcome::skipped: return "not tried";
  }
  return "";
}

/// A figure that is not a number fails: NaN compares false with everything.
std::vector<std::string> failures(const Measured& measured, const Measured& plain, const QualityBar& bar) {
  std::vector<std::string> reasons;
  if (!(measured.kl <= bar.max_kl)) reasons.push_back(fmt::format("KL {:.5f} is above {:g}", measured.kl, bar.max_kl));
  if (!(measured.same_top >= bar.min_same_top)) {
    reasons.push_back(fmt::format("the most likely token is the same at {} of positions, below {}",
                                  percent(measured.same_top), percent(bar.min_same_top)));
  }
  for (const std::string& sentence : {drop("tasks", measured.tasks, plain.tasks, bar.max_task_drop),
                                      drop("recall", measured.recall, plain.recall, bar.max_recall_drop)}) {
    if (!sentence.empty()) reasons.push_back(sentence);
  }
  if (measured.repeat && plain.repeat && *measured.repeat - *plain.repeat > bar.max_repeat_rise) {
    reasons.push_back(fmt::format("a long generation repeats {} of itself, plain {}, more than {} above",
                                  percent(*measured.repeat), percent(*plain.repeat), percent(bar.max_repeat_rise)));
  }
  return reasons;
}

double merit(const Measured& measured, Objective objective) {
  switch (objective) {
    case Objective::throughput: return measured.batched;
    case Objective::latency: return measured.decode;
    case Objective::memory: return -static_cast<double>(measured.peak_bytes);
  }
  return 0;
}

Decision::Decision(DecisionOptions options) : options_(std::move(options)) {
  check_names(options_.kv, "KV precisions");
  check_names(options_.weights, "quantizations");
  order_.push_back({});
  for (const std::string& kv : options_.kv) order_.push_back({"", kv});
  for (const std::string& weights : options_.weights) order_.push_back({weights, ""});
  for (const std::string& weights : options_.weights) {
    for (const std::string& kv : options_.kv) order_.push_back({weights, kv});
  }
}

const Measured* Decision::find(const Candidate& candidate) const {
  const auto found = std::ranges::find(measured_, candidate, &Measured::candidate);
  return found == measured_.end() ? nullptr : &*found;
}

/// Both parts of a combination must have passed by themselves: together they lose more than either.
bool Decision::passed_alone(const Candidate& candidate, std::string& reason) const {
  if (candidate.weights.empty() || candidate.kv.empty()) return true;
  for (const Candidate& part : {Candidate{candidate.weights, ""}, Candidate{"", candidate.kv}}) {
    const Measured* alone = find(part);
    if (alone && passes(*alone)) continue;
    reason = part.name() + " fell below the bar by itself";
    return false;
  }
  return true;
}

std::optional<Candidate> Decision::next() {
  for (; next_ < order_.size(); ++next_) {
    std::string reason;
    if (passed_alone(order_[next_], reason)) return order_[next_];
    path_.push_back({order_[next_], DecisionStep::Outcome::skipped, reason});
  }
  return std::nullopt;
}

void Decision::add(Measured measured) {
  BITTERN_CHECK(next_ < order_.size() && measured.candidate == order_[next_], "{} was not asked for",
                measured.candidate.name());
  ++next_;
  measured_.push_back(std::move(measured));
  const Measured& last = measured_.back();
  const auto reasons = failures(last, measured_.front(), options_.bar);
  DecisionStep step{last.candidate, DecisionStep::Outcome::passed, ""};
  if (!reasons.empty()) {
    step.outcome = DecisionStep::Outcome::failed;
    step.reason = joined(reasons);
  } else if (last.candidate.plain()) {
    step.reason = "the measure of all others";
  } else {
    step.reason = fmt::format("KL {:.5f}, same most likely token at {}", last.kl, percent(last.same_top));
  }
  if (!fits(last)) {
    step.reason +=
        fmt::format("; takes {}, over the limit of {}", gigabytes(last.peak_bytes), gigabytes(options_.memory_limit));
  }
  path_.push_back(std::move(step));
}

bool Decision::passes(const Measured& measured) const {
  return failures(measured, measured_.front(), options_.bar).empty();
}

bool Decision::fits(const Measured& measured) const {
  return options_.memory_limit == 0 || measured.peak_bytes <= options_.memory_limit;
}

/// `a` comes later in the steps than `b`, so it must be better by more than measurements scatter.
bool Decision::better(const Measured& a, const Measured& b) const {
  const double margin = options_.objective == Objective::memory ? 0 : options_.speed_margin;
  const double x = merit(a, options_.objective), y = merit(b, options_.objective);
  return x > y + margin * std::abs(y);
}

const Measured* Decision::recommended() const {
  const Measured* best = nullptr;
  for (const Measured& measured : measured_) {
    if (!passes(measured) || !fits(measured)) continue;
    if (!best || better(measured, *best)) best = &measured;
  }
  return best;
}

std::string Decision::reason() const {
  const Measured* best = recommended();
  if (!best) return why_none();
  std::string text = fmt::format("{} among those that pass the bar", merit_words(options_.objective));
  if (options_.memory_limit > 0) text += fmt::format(" and fit {}", gigabytes(options_.memory_limit));
  const auto close = std::ranges::find_if(measured_, [&](const Measured& other) {
    return &other != best && passes(other) && fits(other) &&
           merit(other, options_.objective) > merit(*best, options_.objective);
  });
  if (close != measured_.end()) {
    text += fmt::format("; {} is faster by less than {}, which measurements scatter by, and loses more",
                        close->candidate.name(), percent(options_.speed_margin));
  }
  return text;
}

std::string Decision::why_none() const {
  if (measured_.empty()) return "nothing was measured";
  const Measured* smallest = nullptr;  // of those that pass
  const Measured* closest = nullptr;   // of those that fit, by KL
  for (const Measured& measured : measured_) {
    if (passes(measured) && (!smallest || measured.peak_bytes < smallest->peak_bytes)) smallest = &measured;
    if (fits(measured) && (!closest || measured.kl < closest->kl)) closest = &measured;
  }
  std::string text = fmt::format("nothing that passes the quality bar fits {}", gigabytes(options_.memory_limit));
  if (smallest) {
    text += fmt::format("; the smallest that passes is {} with {}", smallest->candidate.name(),
                        gigabytes(smallest->peak_bytes));
  }
  if (closest) {
    text += fmt::format("; the closest that fits is {}: {}", closest->candidate.name(),
                        joined(failures(*closest, measured_.front(), options_.bar)));
  } else {
    text += "; nothing measured fits: allow more memory, a shorter context or fewer sequences";
  }
  return text;
}

std::vector<const Measured*> Decision::pareto() const {
  const auto at_least = [&](const Measured& a, const Measured& b) {
    return a.kl <= b.kl && a.peak_bytes <= b.peak_bytes && merit(a, options_.objective) >= merit(b, options_.objective);
  };
  std::vector<const Measured*> front;
  for (const Measured& measured : measured_) {
    const bool beaten = std::ranges::any_of(
        measured_, [&](const Measured& other) { return at_least(other, measured) && !at_least(measured, other); });
    if (!beaten) front.push_back(&measured);
  }
  return front;
}

}  // namespace bittern::quant
