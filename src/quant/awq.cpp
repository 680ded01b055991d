// One layer under AWQ: watch each branch, search scales, fold them, search ranges, round, report.
#include "quant/awq.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>

#include "base/check.h"
#include "quant/awq_search.h"
#include "quant/calibrated_model.h"
#include "quant/scale_groups.h"
#include "tensor/convert.h"

namespace bittern::quant {
namespace {

constexpr int kRatios = 10;  // r = 0, 0.1, ..., 0.9, each with and without the weights' magnitudes

/// Names of a layer's leaves.
class LeafNames final : public nn::Visitor {
 public:
  void linear(const std::string& name, nn::Linear& leaf) override { linears[&leaf] = {name, &leaf}; }
  void norm(const std::string& name, nn::RmsNorm& leaf) override { norms[&leaf] = name; }
  void embedding(const std::string&, nn::Embedding&) override {}

  std::map<const nn::Linear*, std::pair<std::string, nn::Linear*>> linears;
  std::map<const nn::RmsNorm*, std::string> norms;
};

/// What the layer's rounding will do to one linear.
struct Treatment {
  const LinearTask* task = nullptr;  // null: it stays as it is
  nn::Linear* leaf = nullptr;
  std::vector<float> columns;  // factor of every input, empty: 1
  std::vector<float> rows;     // factor of every output as the checkpoint stores them, empty: 1
  std::string notes;
};

class AwqLayer {
 public:
  explicit AwqLayer(LayerWork& work) : work_(work), calibrated_(*work.calibrated()), layout_(work.layout()) {
    calibrated_.model().model().visit_layer(names_, work.layer());
    for (auto& [leaf, entry] : names_.linears) treatments_[leaf].leaf = entry.second;
    for (const LinearTask& task : work.linears()) {
      for (auto& [leaf, entry] : names_.linears) {
        if (entry.first == task.name) treatments_[leaf].task = &task;
      }
    }
  }

  void run() {
    calibrated_.model().load_layer(work_.layer());
    for (int branch = 0; branch < calibrated_.model().model().branches(); ++branch) run_branch(branch);
    // Rounding comes after all searches, since a later group may still scale the rows of an earlier linear.
    std::map<const LinearTask*, std::pair<Treatment*, const ScaleGroup*>> order;
    for (auto& groups : groups_) {
      for (const ScaleGroup& group : groups) {
        for (const nn::Linear* linear : group.linears) order[treatments_[linear].task] = {&treatments_[linear], &group};
      }
    }
    for (const LinearTask& task : work_.linears()) round(*order.at(&task).first, *order.at(&task).second);
    calibrated_.model().drop_layer(work_.layer());
  }

 private:
  void run_branch(int branch) {
    const std::int64_t block = layout_.group_size == -1 ? 0 : layout_.group_size;
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

  void note(const ScaleGroup& group, const std::string& text) {
    for (const nn::Linear* linear : group.linears) {
      std::string& notes = treatments_[linear].notes;
      notes += (notes.empty() ? "" : "; ") + text;
    }
  }

  /// Why the inputs of the group cannot be scaled, or "".
  std::string obstacle(const ScaleGroup& group) {
    for (const nn::Linear* linear : group.linears) {
      if (!treatments_[linear].task) return "not scaled: a linear that shares the input stays as it is";
    }
    if (group.norm) return names_.norms.contains(group.norm) ? "" : "not scaled: the norm is outside the layer";
    if (!group.producer) return "not scaled: nothing before it takes a factor";
    return treatments_[group.producer].task ? "" : "not scaled: the linear before it stays as it is";
  }

  void search_scales(ScaleGroup& group, int branch, std::span<const float> reference) {
    if (const std::string reason = obstacle(group); !reason.empty()) return note(group, reason);
    std::vector<Weight> weights;
    for (const nn::Linear* linear : group.linears) weights.push_back(work_.load(*treatments_[linear].task));
    const std::vector<float> x = shared_means(group, [&](std::int64_t c) { return group.abs_mean(c); });
    const std::vector<float> magnitudes = relative_magnitudes(weights, layout_, work_.pool());
    const std::vector<float> w = shared_means(
        group, [&](std::int64_t c) { return static_cast<double>(magnitudes[static_cast<std::size_t>(c)]); });
    report_dead(group, x);
    std::vector<float> best;
    double least = loss(group, weights, {}, branch, reference);
    const auto consider = [&](std::vector<float> scales) {
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
    if (!best.empty()) fold(group, std::move(best));
  }

  void report_dead(const ScaleGroup& group, std::span<const float> x) {
    const auto dead = std::ranges::count_if(x, [](float value) { return !(value > 0) || !std::isfinite(value); });
    if (dead > 0) note(group, std::to_string(dead) + " input channels are zero on all calibration tokens, left at 1");
  }

  /// Channels that one row of the producer makes must share a factor, so they share a mean.
  template <class Mean>
  static std::vector<float> shared_means(const ScaleGroup& group, const Mean& mean) {
    std::vector<float> means(static_cast<std::size_t>(group.width));
    if (!group.producer) {
      for (std::int64_t c = 0; c < group.width; ++c) means[static_cast<std::size_t>(c)] = static_cast<float>(mean(c));
      return means;
    }
    std::map<std::int64_t, std::pair<double, int>> sums;
    for (std::int64_t c = 0; c < group.width; ++c) {
      auto& [sum, count] = sums[group.producer_rows[static_cast<std::size_t>(c)]];
      sum += mean(c);
      ++count;
    }
    for (std::int64_t c = 0; c < group.width; ++c) {
      const auto& [sum, count] = sums[group.producer_rows[static_cast<std::size_t>(c)]];
      means[static_cast<std::size_t>(c)] = static_cast<float>(sum / count);
    }
    return means;
  }

  std::unique_ptr<PackedWeight> prepare(const nn::Linear& linear, const Weight& weight) {
    if (linear.row_order().empty()) return calibrated_.backend().prepare(weight);
    return calibrated_.backend().prepare(reorder_rows(weight, linear.row_order()));
  }

  double loss(ScaleGroup& group, std::span<const Weight> weights, std::span<const float> scales, int branch,
              std::span<const float> reference) {
    double sum = 0;
    std::vector<std::unique_ptr<PackedWeight>> originals;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      nn::Linear& leaf = *treatments_[group.linears[i]].leaf;
      auto candidate = prepare(leaf, rounded_with_scales(weights[i], scales, layout_, work_.pool()));
      if (group.norm) {
        originals.push_back(leaf.exchange(std::move(candidate)));
      } else {
        sum += output_error(group, leaf, *candidate).first;
      }
    }
    if (!group.norm) return sum;
    std::vector<float> out(search_size());
    calibrated_.run(calibrated_.search(), work_.layer(), branch, out.data());
    for (std::size_t i = 0; i < originals.size(); ++i)
      treatments_[group.linears[i]].leaf->exchange(std::move(originals[i]));
    for (std::size_t i = 0; i < out.size(); ++i) {
      const double difference = static_cast<double>(out[i]) - static_cast<double>(reference[i]);
      sum += difference * difference;
    }
    return sum;
  }

  /// Sum of squared differences of the outputs on the search tokens between the bound weight and `candidate`, and sum
  /// of squares of the former.
  std::pair<double, double> output_error(const ScaleGroup& group, const nn::Linear& leaf,
                                         const PackedWeight& candidate) {
    const std::int64_t tokens = static_cast<std::int64_t>(group.search.size()) / group.width;
    const Tensor x = Tensor::of(const_cast<float*>(group.search.data()), DType::f32, tokens, group.width);
    std::vector<float> a(static_cast<std::size_t>(tokens * leaf.out())), b(a.size());
    Backend& backend = calibrated_.backend();
    backend.linear(Tensor::of(a.data(), DType::f32, tokens, leaf.out()), x, *leaf.packed(), nullptr);
    backend.linear(Tensor::of(b.data(), DType::f32, tokens, leaf.out()), x, candidate, nullptr);
    backend.synchronize();
    double error = 0, energy = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
      const double difference = static_cast<double>(a[i]) - static_cast<double>(b[i]);
      error += difference * difference;
      energy += static_cast<double>(a[i]) * static_cast<double>(a[i]);
    }
    return {error, energy};
  }

  void fold(const ScaleGroup& group, std::vector<float> scales) {
    if (group.norm) {
      fold_into_norm(group, scales);
    } else {
      fold_into_producer(group, scales);
    }
    for (const nn::Linear* linear : group.linears) treatments_[linear].columns = scales;
  }

  /// The stored norm is rounded to its element type; the scales then become what that rounding really divided by, so
  /// folding loses nothing.
  void fold_into_norm(const ScaleGroup& group, std::vector<float>& scales) {
    const std::string key = names_.norms.at(group.norm) + ".weight";
    const Weight stored = work_.checkpoint().dense(key);
    const Weight old = to_f32(stored);
    const float offset = group.norm->offset();
    Weight changed = Weight::allocate(key, stored.format, stored.out, stored.in);
    std::vector<float> values(scales.size()), rounded(scales.size());
    for (std::size_t i = 0; i < scales.size(); ++i) values[i] = (old.data.as<float>()[i] + offset) / scales[i] - offset;
    convert_from_f32(values.data(), stored.format.dtype, stored.out, changed.data.data);
    convert_to_f32(changed.data.data, stored.format.dtype, stored.out, rounded.data());
    for (std::size_t i = 0; i < scales.size(); ++i) {
      const float before = old.data.as<float>()[i] + offset, after = rounded[i] + offset;
      const float exact = before / after;
      const bool safe = before != 0 && after != 0 && std::isfinite(exact) && exact > 0;
      scales[i] = safe ? exact : 1.0F;
      if (!safe) rounded[i] = old.data.as<float>()[i];
    }
    convert_from_f32(rounded.data(), stored.format.dtype, stored.out, changed.data.data);
    work_.replace(key, std::move(changed));
  }

  void fold_into_producer(const ScaleGroup& group, std::span<const float> scales) {
    Treatment& producer = treatments_[group.producer];
    const std::vector<std::int64_t>& order = group.producer->row_order();
    producer.rows.assign(static_cast<std::size_t>(group.producer->out()), 1.0F);
    for (std::size_t c = 0; c < scales.size(); ++c) {
      const auto row = static_cast<std::size_t>(group.producer_rows[c]);
      producer.rows[order.empty() ? row : static_cast<std::size_t>(order[row])] = 1 / scales[c];
    }
    if (group.producer->has_bias()) scale_bias(producer);
  }

  void scale_bias(const Treatment& producer) {
    const std::string key = producer.task->name + ".bias";
    const Weight stored = work_.checkpoint().dense(key);
    Weight values = to_f32(stored);
    for (std::int64_t i = 0; i < values.out; ++i)
      values.data.as<float>()[i] *= producer.rows[static_cast<std::size_t>(i)];
    Weight changed = Weight::allocate(key, stored.format, stored.out, stored.in);
    convert_from_f32(values.data.as<float>(), stored.format.dtype, stored.out, changed.data.data);
    work_.replace(key, std::move(changed));
  }

  void multiply(Weight& weight, const Treatment& treatment, bool inverse) {
    work_.pool().parallel_ranges(weight.out, 1, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t r = begin; r < end; ++r) {
        float* row = weight.data.row<float>(r);
        const float of_row = treatment.rows.empty() ? 1.0F : treatment.rows[static_cast<std::size_t>(r)];
        for (std::int64_t i = 0; i < weight.in; ++i) {
          const float factor =
              of_row * (treatment.columns.empty() ? 1.0F : treatment.columns[static_cast<std::size_t>(i)]);
          row[i] = inverse ? row[i] / factor : row[i] * factor;
        }
      }
    });
  }

  double relative_error(const Treatment& treatment, const ScaleGroup& group, const Weight& weight) {
    const auto [error, energy] = output_error(group, *treatment.leaf, *prepare(*treatment.leaf, weight));
    return energy > 0 ? error / energy : 0;
  }

  void round(Treatment& treatment, const ScaleGroup& group) {
    StoreNotes notes;
    Weight weight = work_.load(*treatment.task);
    notes.loss_before = relative_error(treatment, group, rounded_with_scales(weight, {}, layout_, work_.pool()));
    multiply(weight, treatment, false);
    Weight shrink;
    if (group.block == layout_.group_of(weight.in) && !group.gram.empty()) {
      shrink = clip_search(weight, group, treatment.columns, layout_, calibrated_.backend(), work_.pool());
    } else {
      treatment.notes +=
          (treatment.notes.empty() ? "" : "; ") + std::string("ranges not searched: groups are whole rows");
    }
    const Weight quantized = rtn(weight, layout_, work_.pool(), shrink.data.rank == 0 ? nullptr : &shrink.data);
    Weight decoded = to_f32(quantized);
    multiply(decoded, treatment, true);
    notes.loss_after = relative_error(treatment, group, decoded);
    decoded = {};
    notes.text = treatment.notes;
    work_.store(*treatment.task, weight, quantized, notes);
  }

  LayerWork& work_;
  CalibratedModel& calibrated_;
  GroupLayout layout_;
  LeafNames names_;
  std::map<const nn::Linear*, Treatment> treatments_;
  std::vector<std::vector<ScaleGroup>> groups_;
};

}  // namespace

void run_awq(LayerWork& work) {
  BITTERN_CHECK(work.calibrated() != nullptr);
  AwqLayer(work).run();
}

/// The layer packed as it is, the widest scale group as f32 weights with one candidate and its packing, and what
/// watching keeps.
std::int64_t awq_peak_bytes(std::span<const LinearTask> layer, const Scheme& scheme, std::int64_t group_size) {
  std::int64_t all = 0, largest = 0, inputs = 0, pack = 0;
  for (const LinearTask& linear : layer) {
    all += linear.out * linear.in;
    largest = std::max(largest, linear.out * linear.in);
    inputs += linear.in * (group_inputs(linear, group_size) + 512) * 4;
    pack = std::max(pack, scheme.pack_bytes(linear, group_size));
  }
  return 4 * all + 3 * 4 * 2 * largest + inputs + pack;
}

}  // namespace bittern::quant
