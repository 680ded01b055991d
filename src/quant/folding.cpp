// Where factors go: the norm or the rows (and bias) of the linear that makes the channel, and the columns that take it.
#include "quant/folding.h"

#include <bittern/error.h>

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "tensor/convert.h"

namespace bittern::quant {
namespace {

/// Names of a layer's leaves.
class LeafNames final : public nn::Visitor {
 public:
  void linear(const std::string& name, nn::Linear& leaf) override { linears.emplace_back(name, &leaf); }
  void norm(const std::string& name, nn::RmsNorm& leaf) override { norms[&leaf] = name; }
  void embedding(const std::string&, nn::Embedding&) override {}

  std::vector<std::pair<std::string, nn::Linear*>> linears;
  std::map<const nn::RmsNorm*, std::string> norms;
};

/// What makes the activation of the group; null where that is not known.
const void* source_of(const ScaleGroup& group) {
  return group.norm ? static_cast<const void*>(group.norm) : static_cast<const void*>(group.producer);
}

}  // namespace

LayerFolding::LayerFolding(LayerWork& work) : work_(work), backend_(work.calibrated()->backend()) {
  LeafNames names;
  work.calibrated()->model().model().visit_layer(names, work.layer());
  for (auto& [name, leaf] : names.linears) {
    Treatment& treatment = treatments_[leaf];
    treatment.leaf = leaf;
    const auto task = std::ranges::find(work.linears(), name, &LinearTask::name);
    if (task != work.linears().end()) treatment.task = &*task;
  }
  norms_ = std::move(names.norms);
}

void LayerFolding::note(const ScaleGroup& group, const std::string& text) {
  for (const nn::Linear* linear : group.linears) of(linear).note(text);
}

std::map<const LinearTask*, std::pair<Treatment*, const ScaleGroup*>> LayerFolding::by_task(
    std::span<const std::vector<ScaleGroup>> branches) {
  std::map<const LinearTask*, std::pair<Treatment*, const ScaleGroup*>> tasks;
  for (const auto& groups : branches) {
    for (const ScaleGroup& group : groups) {
      for (const nn::Linear* linear : group.linears) tasks[of(linear).task] = {&of(linear), &group};
    }
  }
  return tasks;
}

std::string LayerFolding::obstacle(const ScaleGroup& group) {
  for (const nn::Linear* linear : group.linears) {
    if (!of(linear).task) return "not scaled: a linear that shares the input stays as it is";
  }
  refuse_second_group(group);
  if (group.norm) return norms_.contains(group.norm) ? "" : "not scaled: the norm is outside the layer";
  if (!group.producer) return "not scaled: nothing before it takes a factor";
  return of(group.producer).task ? "" : "not scaled: the linear before it stays as it is";
}

/// A group holds everything in its branch that takes what its source makes. A source that another branch takes from too
/// has already changed under it.
void LayerFolding::refuse_second_group(const ScaleGroup& group) const {
  if (!folded_.contains(source_of(group))) return;
  const std::string source = group.norm ? norms_.at(group.norm) : treatments_.at(group.producer).task->name;
  throw Error(ErrorCode::unsupported,
              source + " feeds linears in more than one branch of layer " + std::to_string(work_.layer()) +
                  ": factors cannot be folded into it for one of them",
              "use --algorithm gptq or rtn, which fold nothing");
}

void LayerFolding::fold(const ScaleGroup& group, std::vector<float> scales) {
  refuse_second_group(group);
  folded_.insert(source_of(group));
  if (group.norm) {
    fold_into_norm(group, scales);
  } else {
    fold_into_producer(group, scales);
  }
  for (const nn::Linear* linear : group.linears) of(linear).columns = scales;
}

/// The stored norm is rounded to its element type; the scales then become what that rounding really divided by, so
/// folding loses nothing.
void LayerFolding::fold_into_norm(const ScaleGroup& group, std::vector<float>& scales) {
  const std::string key = norms_.at(group.norm) + ".weight";
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

void LayerFolding::fold_into_producer(const ScaleGroup& group, std::span<const float> scales) {
  Treatment& producer = of(group.producer);
  const std::vector<std::int64_t>& order = group.producer->row_order();
  producer.rows.assign(static_cast<std::size_t>(group.producer->out()), 1.0F);
  for (std::size_t c = 0; c < scales.size(); ++c) {
    const auto row = static_cast<std::size_t>(group.producer_rows[c]);
    producer.rows[order.empty() ? row : static_cast<std::size_t>(order[row])] = 1 / scales[c];
  }
  if (group.producer->has_bias()) scale_bias(producer);
}

void LayerFolding::scale_bias(const Treatment& producer) {
  const std::string key = producer.task->name + ".bias";
  const Weight stored = work_.checkpoint().dense(key);
  Weight values = to_f32(stored);
  for (std::int64_t i = 0; i < values.out; ++i)
    values.data.as<float>()[i] *= producer.rows[static_cast<std::size_t>(i)];
  Weight changed = Weight::allocate(key, stored.format, stored.out, stored.in);
  convert_from_f32(values.data.as<float>(), stored.format.dtype, stored.out, changed.data.data);
  work_.replace(key, std::move(changed));
}

void LayerFolding::multiply(Weight& weight, const Treatment& treatment, bool inverse) {
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

std::unique_ptr<PackedWeight> LayerFolding::prepare(const nn::Linear& leaf, const Weight& weight) {
  if (leaf.row_order().empty()) return backend_.prepare(weight);
  return backend_.prepare(reorder_rows(weight, leaf.row_order()));
}

std::pair<double, double> LayerFolding::output_error(std::span<const float> x, const nn::Linear& leaf,
                                                     const PackedWeight& candidate) {
  const std::int64_t tokens = static_cast<std::int64_t>(x.size()) / leaf.in();
  const Tensor input = Tensor::of(const_cast<float*>(x.data()), DType::f32, tokens, leaf.in());
  std::vector<float> a(static_cast<std::size_t>(tokens * leaf.out())), b(a.size());
  backend_.linear(Tensor::of(a.data(), DType::f32, tokens, leaf.out()), input, *leaf.packed(), nullptr);
  backend_.linear(Tensor::of(b.data(), DType::f32, tokens, leaf.out()), input, candidate, nullptr);
  backend_.synchronize();
  double error = 0, energy = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    error += difference * difference;
    energy += static_cast<double>(a[i]) * static_cast<double>(a[i]);
  }
  return {error, energy};
}

double LayerFolding::relative_error(std::span<const float> x, const nn::Linear& leaf, const Weight& weight) {
  const auto [error, energy] = output_error(x, leaf, *prepare(leaf, weight));
  return energy > 0 ? error / energy : 0;
}

}  // namespace bittern::quant
