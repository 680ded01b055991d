// Counting, and three bootstraps: of an accuracy, of a mean NLL, of the difference of pairs.
#include "quant/accuracy.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"

namespace bittern::quant {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

using Answers = std::vector<Answer>;

std::vector<BlockSum> right_blocks(const Answers& answers) {
  std::vector<BlockSum> blocks;
  for (const Answer& answer : answers) blocks.push_back({answer.right ? 1.0 : 0.0, 1.0});
  return blocks;
}

std::vector<BlockSum> nll_blocks(const Answers& answers) {
  std::vector<BlockSum> blocks;
  for (const Answer& answer : answers) blocks.push_back({answer.nll.value_or(0), answer.nll ? 1.0 : 0.0});
  return blocks;
}

Accuracy accuracy_of(const Answers& answers, const BootstrapOptions& options) {
  Accuracy accuracy;
  accuracy.total = std::ssize(answers);
  accuracy.right = std::count_if(answers.begin(), answers.end(), [](const Answer& answer) { return answer.right; });
  const bool alike = accuracy.right == 0 || accuracy.right == accuracy.total;
  accuracy.interval = alike ? wilson(static_cast<double>(accuracy.right), static_cast<double>(accuracy.total))
                            : bootstrap_ratio(right_blocks(answers), options);
  return accuracy;
}

std::optional<Figure> nll_of(const Answers& answers, const BootstrapOptions& options) {
  const std::vector<BlockSum> blocks = nll_blocks(answers);
  const double mean = ratio(blocks);
  if (std::isnan(mean)) return std::nullopt;
  return Figure{mean, kNaN, bootstrap_ratio(blocks, options)};
}

std::optional<AccuracyChange> change_of(const Answers& answers, const Answers& reference, const Accuracy& accuracy,
                                        const BootstrapOptions& options) {
  if (reference.empty()) return std::nullopt;
  AccuracyChange change;
  change.reference = accuracy_of(reference, options);
  change.difference = {accuracy.value() - change.reference.value(), kNaN,
                       bootstrap_difference(right_blocks(answers), right_blocks(reference), options)};
  for (std::size_t i = 0; i < answers.size(); ++i) {
    change.gained += answers[i].right && !reference[i].right ? 1 : 0;
    change.lost += !answers[i].right && reference[i].right ? 1 : 0;
  }
  change.reference_nll = nll_of(reference, options);
  const std::vector<BlockSum> a = nll_blocks(answers), b = nll_blocks(reference);
  if (change.reference_nll && ratio(a) == ratio(a)) {
    change.nll_difference = Figure{ratio(a) - ratio(b), kNaN, bootstrap_difference(a, b, options)};
  }
  return change;
}

GroupScore score(const std::string& group, const Answers& answers, const Answers& reference,
                 const BootstrapOptions& options) {
  GroupScore result{group, accuracy_of(answers, options), nll_of(answers, options), std::nullopt};
  result.change = change_of(answers, reference, result.accuracy, options);
  return result;
}

Json to_json(const Accuracy& accuracy) {
  return {{"right", accuracy.right},
          {"total", accuracy.total},
          {"accuracy", accuracy.value()},
          {"interval", to_json(accuracy.interval)}};
}

}  // namespace

std::vector<GroupScore> score_groups(std::span<const Answer> answers, std::span<const Answer> reference,
                                     const BootstrapOptions& options) {
  BITTERN_CHECK(reference.empty() || reference.size() == answers.size());
  std::vector<std::string> order;
  std::vector<std::pair<Answers, Answers>> groups;
  for (std::size_t i = 0; i < answers.size(); ++i) {
    const auto found = std::find(order.begin(), order.end(), answers[i].group);
    const auto index = static_cast<std::size_t>(found - order.begin());
    if (found == order.end()) order.push_back(answers[i].group), groups.emplace_back();
    groups[index].first.push_back(answers[i]);
    if (!reference.empty()) groups[index].second.push_back(reference[i]);
  }
  std::vector<GroupScore> scores;
  for (std::size_t g = 0; g < order.size(); ++g) {
    scores.push_back(score(order[g], groups[g].first, groups[g].second, options));
  }
  return scores;
}

GroupScore score_all(std::span<const Answer> answers, std::span<const Answer> reference,
                     const BootstrapOptions& options, const std::string& name) {
  BITTERN_CHECK(reference.empty() || reference.size() == answers.size());
  return score(name, {answers.begin(), answers.end()}, {reference.begin(), reference.end()}, options);
}

Json to_json(const GroupScore& score) {
  Json json = to_json(score.accuracy);
  if (score.nll) json["nll"] = to_json(*score.nll);
  if (!score.change) return json;
  const AccuracyChange& change = *score.change;
  Json reference = to_json(change.reference);
  if (change.reference_nll) reference["nll"] = to_json(*change.reference_nll);
  json["reference"] = std::move(reference);
  json["difference"] = to_json(change.difference);
  json["gained"] = change.gained;
  json["lost"] = change.lost;
  if (change.nll_difference) json["nll_difference"] = to_json(*change.nll_difference);
  return json;
}

Interval wilson(double right, double total) {
  if (total <= 0) return {kNaN, kNaN};
  const double z = 1.959963984540054, p = right / total;
  const double center = (p + z * z / (2 * total)) / (1 + z * z / total);
  const double half = z / (1 + z * z / total) * std::sqrt(p * (1 - p) / total + z * z / (4 * total * total));
  return {std::max(center - half, 0.0), std::min(center + half, 1.0)};
}

}  // namespace bittern::quant
