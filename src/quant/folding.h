// Folding: factors on the input channels of linears that cancel against factors on what makes those channels, so that
// the model computes the same and rounds differently. Algorithms choose the factors; this is where they can go, what
// they do to norms, biases and the rows of other linears, and the bookkeeping between leaves and checkpoint.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "backend/backend.h"
#include "quant/algorithm.h"
#include "quant/calibrated_model.h"
#include "quant/scale_groups.h"

namespace bittern::quant {

/// What will happen to one linear of the layer before it is rounded.
struct Treatment {
  const LinearTask* task = nullptr;  // null: it stays as it is
  nn::Linear* leaf = nullptr;
  std::vector<float> columns;  // factor of every input, empty: 1
  std::vector<float> rows;     // factor of every output as the checkpoint stores them, empty: 1
  std::string notes;

  void note(const std::string& text) { notes += (notes.empty() ? "" : "; ") + text; }
};

/// The leaves of one layer and their treatments.
class LayerFolding {
 public:
  /// LayerWork::calibrated() must be there; both must outlive it.
  explicit LayerFolding(LayerWork& work);

  Treatment& of(const nn::Linear* leaf) { return treatments_.at(leaf); }
  void note(const ScaleGroup& group, const std::string& text);
  /// Treatment and group of every linear of `branches`, the groups of each branch.
  std::map<const LinearTask*, std::pair<Treatment*, const ScaleGroup*>> by_task(
      std::span<const std::vector<ScaleGroup>> branches);
  /// Why the inputs of the group cannot be scaled, or "". Error(unsupported) when factors of another group were folded
  /// into what makes them, as they were with no notice taken of this group.
  std::string obstacle(const ScaleGroup& group);
  /// Multiplies the inputs of the group's linears by `scales` (width) and divides what makes those inputs by them.
  /// Norms and biases are replaced in the output at once; linears when multiply() is called. obstacle() must be "".
  void fold(const ScaleGroup& group, std::vector<float> scales);
  /// Applies the factors of the treatment to an f32 weight, or takes them away again.
  void multiply(Weight& weight, const Treatment& treatment, bool inverse);

  /// In the order in which the leaf runs its rows.
  std::unique_ptr<PackedWeight> prepare(const nn::Linear& leaf, const Weight& weight);
  /// For x (tokens, in) f32: sum of squared differences of the outputs between the bound weight and `candidate`, and
  /// sum of squares of the former; no bias in either.
  std::pair<double, double> output_error(std::span<const float> x, const nn::Linear& leaf,
                                         const PackedWeight& candidate);
  /// The first over the second, 0 where there is no output; `weight` as the checkpoint stores its rows.
  double relative_error(std::span<const float> x, const nn::Linear& leaf, const Weight& weight);

 private:
  void refuse_second_group(const ScaleGroup& group) const;
  void fold_into_norm(const ScaleGroup& group, std::vector<float>& scales);
  void fold_into_producer(const ScaleGroup& group, std::span<const float> scales);
  void scale_bias(const Treatment& producer);

  LayerWork& work_;
  Backend& backend_;
  std::map<const nn::Linear*, Treatment> treatments_;
  std::map<const nn::RmsNorm*, std::string> norms_;
  std::set<const void*> folded_;  // norms and linears that took the factors of a group
};

/// One number per channel of the group, `value(c)`; channels that one row of the producer makes must share a factor,
/// so they share what `join` makes of their values and their count.
template <class Value, class Join>
std::vector<float> shared_by_row(const ScaleGroup& group, const Value& value, const Join& join) {
  std::vector<float> result(static_cast<std::size_t>(group.width));
  const auto row_of = [&](std::int64_t c) {
    return group.producer ? group.producer_rows[static_cast<std::size_t>(c)] : c;
  };
  std::map<std::int64_t, std::vector<double>> rows;
  for (std::int64_t c = 0; c < group.width; ++c) rows[row_of(c)].push_back(static_cast<double>(value(c)));
  for (std::int64_t c = 0; c < group.width; ++c)
    result[static_cast<std::size_t>(c)] = static_cast<float>(join(rows[row_of(c)]));
  return result;
}

}  // namespace bittern::quant
