// One layer under SmoothQuant: watch each branch, search alpha of every group, fold, round to nearest.
#include "quant/smoothquant.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>

#include "base/check.h"
#include "quant/awq_search.h"
#include "quant/folding.h"

namespace bittern::quant {
namespace {

constexpr float kAlphas[] = {0.5F, 0.3F, 0.4F, 0.6F, 0.7F, 0.8F, 0.9F};  // the paper's choice first

double largest_of(std::span<const double> values) { return *std::ranges::max_element(values); }

std::vector<float> column_maxima(std::span<const Weight> weights) {
  std::vector<float> maxima(static_cast<std::size_t>(weights.front().in));
  for (const Weight& weight : weights) {
    for (std::int64_t r = 0; r < weight.out; ++r) {
      const float* row = weight.data.row<float>(r);
      for (std::size_t i = 0; i < maxima.size(); ++i) maxima[i] = std::max(maxima[i], std::fabs(row[i]));
    }
  }
  return maxima;
}

class SmoothLayer {
 public:
  explicit SmoothLayer(LayerWork& work) : work_(work), calibrated_(*work.calibrated()), folding_(work) {}

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
    GroupProbe probe(0, work_.pool());
    std::vector<float> added;
    // The search tokens come first: the chunks then move the hidden states on.
    probe.keep_inputs(true);
    run_chunk(calibrated_.search(), branch, probe, added);
    probe.keep_inputs(false);
    for (const auto& chunk : calibrated_.chunks()) {
      run_chunk(chunk, branch, probe, added);
      for (std::size_t i = 0; i < added.size(); ++i) calibrated_.hidden(chunk.first)[i] += added[i];
    }
    for (const ScaleGroup& group : probe.groups()) search(group);
    groups_.push_back(std::move(probe.groups()));
  }

  void run_chunk(const CalibratedModel::Chunk& chunk, int branch, GroupProbe& probe, std::vector<float>& added) {
    added.resize(static_cast<std::size_t>(chunk.tokens * calibrated_.hidden_size()));
    calibrated_.run(chunk, work_.layer(), branch, added.data(), &probe);
  }

  void search(const ScaleGroup& group) {
    if (const std::string reason = folding_.obstacle(group); !reason.empty()) return folding_.note(group, reason);
    std::vector<Weight> weights;
    for (const nn::Linear* linear : group.linears) weights.push_back(work_.load(*folding_.of(linear).task));
    const std::vector<float> of_weights = column_maxima(weights);
    const auto channel = [](const std::vector<float>& values) {
      return [&values](std::int64_t c) { return values[static_cast<std::size_t>(c)]; };
    };
    const std::vector<float> x = shared_by_row(group, channel(group.abs_max), largest_of);
    const std::vector<float> w = shared_by_row(group, channel(of_weights), largest_of);
    double least = loss(group, weights, {});
    std::vector<float> best;
    float best_alpha = 0;
    for (const float alpha : kAlphas) {
      std::vector<float> scales = smoothing_scales(x, w, alpha);
      const double candidate = loss(group, weights, scales);
      if (!(candidate < least)) continue;
      least = candidate;
      best = std::move(scales);
      best_alpha = alpha;
    }
    if (best.empty()) return folding_.note(group, "not smoothed: no alpha lowers the error");
    char text[32];
    std::snprintf(text, sizeof(text), "alpha %.1f", static_cast<double>(best_alpha));
    folding_.note(group, text);
    folding_.fold(group, std::move(best));
  }

  double loss(const ScaleGroup& group, std::span<const Weight> weights, std::vector<float> scales) {
    double sum = 0;
    Treatment candidate;
    candidate.columns = std::move(scales);
    for (std::size_t i = 0; i < weights.size(); ++i) {
      const nn::Linear& leaf = *group.linears[i];
      Weight scaled = Weight::allocate(weights[i].name, weights[i].format, weights[i].out, weights[i].in);
      std::copy_n(weights[i].data.as<float>(), weights[i].data.size(), scaled.data.as<float>());
      folding_.multiply(scaled, candidate, false);
      const GroupLayout layout = work_.layout(*folding_.of(&leaf).task);
      sum += error(group, leaf, rtn(scaled, layout, work_.pool()), candidate).first;
    }
    return sum;
  }

  /// Squared error of the outputs, and their energy: the bound weight over the inputs, against `quantized` over the
  /// inputs divided by the columns' factors, whose outputs are divided by the rows' factors.
  std::pair<double, double> error(const ScaleGroup& group, const nn::Linear& leaf, const Weight& quantized,
                                  const Treatment& treatment) {
    std::vector<float> x = group.search;
    for (std::size_t i = 0; i < x.size() && !treatment.columns.empty(); ++i)
      x[i] /= treatment.columns[i % treatment.columns.size()];
    const std::int64_t tokens = static_cast<std::int64_t>(x.size()) / leaf.in();
    const std::vector<float> a = outputs(group.search, tokens, *leaf.packed());
    const std::vector<float> b = outputs(x, tokens, *folding_.prepare(leaf, quantized));
    double sum = 0, energy = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
      const double exact = static_cast<double>(a[i]);
      const double difference = exact - static_cast<double>(b[i]) / row_factor(treatment, leaf, i);
      sum += difference * difference;
      energy += exact * exact;
    }
    return {sum, energy};
  }

  static double row_factor(const Treatment& treatment, const nn::Linear& leaf, std::size_t output) {
    if (treatment.rows.empty()) return 1;
    const std::size_t row = output % treatment.rows.size();
    const auto& order = leaf.row_order();
    return static_cast<double>(treatment.rows[order.empty() ? row : static_cast<std::size_t>(order[row])]);
  }

  std::vector<float> outputs(std::span<const float> x, std::int64_t tokens, const PackedWeight& weight) {
    std::vector<float> result(static_cast<std::size_t>(tokens * weight.out()));
    Backend& backend = calibrated_.backend();
    backend.linear(Tensor::of(result.data(), DType::f32, tokens, weight.out()),
                   Tensor::of(const_cast<float*>(x.data()), DType::f32, tokens, weight.in()), weight, nullptr);
    backend.synchronize();
    return result;
  }

  double relative(const std::pair<double, double>& error_and_energy) {
    return error_and_energy.second > 0 ? error_and_energy.first / error_and_energy.second : 0;
  }

  void round(Treatment& treatment, const ScaleGroup& group) {
    StoreNotes notes;
    const nn::Linear& leaf = *treatment.leaf;
    const GroupLayout layout = work_.layout(*treatment.task);
    Weight weight = work_.load(*treatment.task);
    notes.loss_before = relative(error(group, leaf, rtn(weight, layout, work_.pool()), {}));
    folding_.multiply(weight, treatment, false);
    const Weight quantized = rtn(weight, layout, work_.pool());
    notes.loss_after = relative(error(group, leaf, quantized, treatment));
    notes.text = treatment.notes;
    work_.store(*treatment.task, weight, quantized, notes);
  }

  LayerWork& work_;
  CalibratedModel& calibrated_;
  LayerFolding folding_;
  std::vector<std::vector<ScaleGroup>> groups_;
};

}  // namespace

std::vector<float> smoothing_scales(std::span<const float> x, std::span<const float> w, float alpha) {
  // The same form as AWQ's candidates, of maxima in place of means.
  std::vector<float> scales(x.size());
  for (std::size_t i = 0; i < x.size(); ++i)
    scales[i] = x[i] > 0 && w[i] > 0 ? std::pow(x[i], alpha) / std::pow(w[i], 1 - alpha) : 0.0F;
  return candidate_scales(scales, {}, 1.0F, false);
}

void run_smoothquant(LayerWork& work) {
  BITTERN_CHECK(work.calibrated() != nullptr);
  SmoothLayer(work).run();
}

/// The layer packed as it is, all weights of the widest group twice (themselves, and scaled) with one packed, what
/// watching keeps, and two outputs of the search tokens.
std::int64_t smoothquant_peak_bytes(std::span<const LinearTask> layer, std::int64_t group_size,
                                    std::int64_t search_tokens) {
  std::int64_t all = 0, largest = 0, inputs = 0, pack = 0, outputs = 0, widest = 0;
  std::map<std::int64_t, std::int64_t> by_input;  // linears that share an input have its width in common
  for (const LinearTask& linear : layer) {
    all += linear.out * linear.in;
    largest = std::max(largest, linear.out * linear.in);
    widest = std::max(widest, by_input[linear.in] += linear.out * linear.in);
    inputs += linear.in * search_tokens * 4;
    outputs = std::max(outputs, (2 * linear.out + linear.in) * search_tokens * 4);
    pack = std::max(pack, linear.scheme->pack_bytes(linear, group_size));
  }
  return 4 * (all + widest + largest) + 2 * largest + inputs + std::max(outputs, pack);
}

}  // namespace bittern::quant
