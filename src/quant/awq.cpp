// One layer under AWQ: watch each branch, search scales, fold them, search ranges, round, report.
#include "quant/awq.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>

#include "base/check.h"
#include "quant/awq_search.h"
#include "quant/folding.h"

namespace bittern::quant {
namespace {

constexpr int kRatios = 10;  // r = 0, 0.1, ..., 0.9, each with and without the weights' magnitudes

double mean_of(std::span<const double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

class AwqLayer {
 public:
  explicit AwqLayer(LayerWork& work) : work_(work), calibrated_(*work.calibrated()), folding_(work) {}

  void run() {
    calibrated_.model().load_layer(work_.layer());
    for (int branch = 0; branch < calibrated_.model().model().branches(); ++branch) run_branch(branch);
    // Rounding comes after all searches, since a later group may still scale the rows of an earlier linear.
    const auto order = folding_.by_task(groups_);
    for (const LinearTask& task : work_.linears()) round(*order.at(&task).first, *order.at(&task).second);
    calibrated_.model().drop_layer(work_.layer());
  }

 private:
  void run_branch(int branch) {
    const std::int64_t block = work_.group_size() == -1 ? 0 : work_.group_size();
    GroupProbe probe(block, work_.pool());
    std::vector<float> added(calibrated_.hidden().size());
    for (const auto& chunk : calibrated_.chunks())
      calibrated_.run(chunk, work_.layer(), branch, added.data() + chunk.first * calibrated_.hidden_size(), &probe);
    probe.keep_inputs(true);
    std::vector<float> ignored(search_size());
    calibrated_.run(calibrated_.search(), work_.layer(), branch, ignored.data(), &probe);
    for (ScaleGroup& group : probe.groups()) search_scales(group, branch, added);
    groups_.push_back(std::move(probe.groups()));
    for (std::size_t i = 0; i < added.size(); ++i) calibrated_.hidden()[i] += added[i];
  }

  std::size_t search_size() const {
    return static_cast<std::size_t>(calibrated_.search().tokens * calibrated_.hidden_size());
  }

  void search_scales(ScaleGroup& group, int branch, std::span<const float> reference) {
    if (const std::string reason = folding_.obstacle(group); !reason.empty()) return folding_.note(group, reason);
    std::vector<Weight> weights;
    for (const nn::Linear* linear : group.linears) weights.push_back(work_.load(*folding_.of(linear).task));
    const std::vector<float> x = shared_by_row(
        group, [&](std::int64_t c) { return group.abs_mean(c); }, mean_of);
    const std::vector<float> magnitudes = relative_magnitudes(weights, layout_of(group.linears.front()), work_.pool());
    const std::vector<float> w = shared_by_row(
        group, [&](std::int64_t c) { return magnitudes[static_cast<std::size_t>(c)]; }, mean_of);
    report_dead(group, x);
    std::vector<float> best;
    double least = loss(group, weights, {}, branch, reference);
    const auto consider = [&](std::vector<float> scales) {
      if (group.producer && group.producer->has_bias()) round_to_powers_of_two(scales);
      const double candidate = loss(group, weights, scales, branch, reference);
      if (!(candidate < least)) return;
      least = candidate;
      best = std::move(scales);
    };
    for (int i = 0; i < kRatios; ++i) {
      const float ratio = static_cast<float>(i) / kRatios;
      consider(candidate_scales(x, w, ratio, true));
      if (i > 0) consider(candidate_scales(x, w, ratio, false));
    }
    if (!best.empty()) folding_.fold(group, std::move(best));
  }

  void report_dead(const ScaleGroup& group, std::span<const float> x) {
    const auto dead = std::ranges::count_if(x, [](float value) { return !(value > 0) || !std::isfinite(value); });
    if (dead > 0)
      folding_.note(group, std::to_string(dead) + " input channels are zero on all calibration tokens, left at 1");
  }

  double loss(ScaleGroup& group, std::span<const Weight> weights, std::span<const float> scales, int branch,
              std::span<const float> reference) {
    double sum = 0;
    std::vector<std::unique_ptr<PackedWeight>> originals;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      nn::Linear& leaf = *folding_.of(group.linears[i]).leaf;
      round_with_scales(weights[i], scales, layout_of(&leaf), work_.pool(), candidate_);
      auto candidate = folding_.prepare(leaf, candidate_);
      if (group.norm) {
        originals.push_back(leaf.exchange(std::move(candidate)));
      } else {
        sum += folding_.output_error(group.search, leaf, *candidate).first;
      }
    }
    if (!group.norm) return sum;
    std::vector<float> out(search_size());
    calibrated_.run(calibrated_.search(), work_.layer(), branch, out.data());
    for (std::size_t i = 0; i < originals.size(); ++i)
      folding_.of(group.linears[i]).leaf->exchange(std::move(originals[i]));
    for (std::size_t i = 0; i < out.size(); ++i) {
      const double difference = static_cast<double>(out[i]) - static_cast<double>(reference[i]);
      sum += difference * difference;
    }
    return sum;
  }

  void round(Treatment& treatment, const ScaleGroup& group) {
    StoreNotes notes;
    const GroupLayout layout = work_.layout(*treatment.task);
    Weight weight = work_.load(*treatment.task);
    round_with_scales(weight, {}, layout, work_.pool(), candidate_);
    notes.loss_before = folding_.relative_error(group.search, *treatment.leaf, candidate_);
    candidate_ = {};
    folding_.multiply(weight, treatment, false);
    Weight shrink;
    if (group.block == layout.group_of(weight.in) && !group.gram.empty()) {
      shrink = clip_search(weight, group, treatment.columns, layout, calibrated_.backend(), work_.pool());
    } else {
      treatment.note("ranges not searched: groups are whole rows");
    }
    const Weight quantized = rtn(weight, layout, work_.pool(), shrink.data.rank == 0 ? nullptr : &shrink.data);
    Weight decoded = to_f32(quantized);
    folding_.multiply(decoded, treatment, true);
    notes.loss_after = folding_.relative_error(group.search, *treatment.leaf, decoded);
    decoded = {};
    notes.text = treatment.notes;
    work_.store(*treatment.task, weight, quantized, notes);
  }

  GroupLayout layout_of(const nn::Linear* linear) { return work_.layout(*folding_.of(linear).task); }

  LayerWork& work_;
  CalibratedModel& calibrated_;
  LayerFolding folding_;
  std::vector<std::vector<ScaleGroup>> groups_;
  Weight candidate_;  // kept from one candidate to the next: fresh pages cost as much as the rounding
};

}  // namespace

void run_awq(LayerWork& work) {
  BITTERN_CHECK(work.calibrated() != nullptr);
  AwqLayer(work).run();
}

/// The layer packed as it is, the widest scale group as f32 weights with one candidate and its packing, and what
/// watching keeps; and two outputs of the search tokens.
std::int64_t awq_peak_bytes(std::span<const LinearTask> layer, std::int64_t group_size, std::int64_t search_tokens) {
  std::int64_t all = 0, largest = 0, inputs = 0, pack = 0, outputs = 0;
  for (const LinearTask& linear : layer) {
    all += linear.out * linear.in;
    largest = std::max(largest, linear.out * linear.in);
    inputs += linear.in * (group_inputs(linear, group_size) + search_tokens) * 4;
    outputs = std::max(outputs, 2 * linear.out * search_tokens * 4);
    pack = std::max(pack, linear.scheme->pack_bytes(linear, group_size));
  }
  return 4 * all + 3 * 4 * 2 * largest + inputs + std::max(outputs, pack);
}

}  // namespace bittern::quant
