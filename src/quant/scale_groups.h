// Scale groups: which linears of a branch share an input, where a factor on that input's channels can be folded, and
// what the calibration tokens show of it. Found by watching a branch run (nn/probe.h), so no architecture has a table.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "nn/linear.h"
#include "nn/probe.h"

namespace bittern::quant {

/// The linears that take one activation, and its statistics over the tokens seen.
struct ScaleGroup {
  std::vector<const nn::Linear*> linears;
  // Exactly one is set where a factor can be folded.
  const nn::RmsNorm* norm = nullptr;
  const nn::Linear* producer = nullptr;
  std::vector<std::int64_t> producer_rows;  // (width) as Probe::channel_source

  std::int64_t width = 0;
  std::int64_t tokens = 0;
  std::vector<double> abs_sum;  // (width) sum |x|
  std::vector<float> abs_max;   // (width) max |x|
  /// Sums of x x^T within each run of `block` channels: (ceil(width / block), block, block), row after row.
  std::int64_t block = 0;
  std::vector<float> gram;
  std::vector<float> search;  // (search tokens, width) the input on the search tokens

  double abs_mean(std::int64_t channel) const {
    return abs_sum[static_cast<std::size_t>(channel)] / static_cast<double>(tokens);
  }
};

/// Gathers the groups of one branch over any number of runs of it.
class GroupProbe final : public nn::Probe {
 public:
  /// `block` channels per Gram matrix, 0 for none (rows that are one group are too wide for it).
  GroupProbe(std::int64_t block, ThreadPool& pool) : block_(block), pool_(pool) {}

  /// The next run's inputs are kept in `search` and not counted; or counted and not kept.
  void keep_inputs(bool keep) { keep_ = keep; }
  void linear_input(const nn::Linear& linear, const Tensor& x) override;
  void kv(int, const Tensor&, const Tensor&) override {}
  void norm_output(const nn::RmsNorm& norm, const Tensor& x) override;
  void channel_source(const Tensor& x, const nn::Linear& producer, std::span<const std::int64_t> rows) override;

  std::vector<ScaleGroup>& groups() { return groups_; }

 private:
  struct Source {
    const nn::RmsNorm* norm = nullptr;
    const nn::Linear* producer = nullptr;
    std::vector<std::int64_t> rows;
  };

  ScaleGroup& group_of(const nn::Linear& linear, const Tensor& x, bool& first_of_group);
  void count(ScaleGroup& group, const Tensor& x);
  void add_gram(ScaleGroup& group, const Tensor& x);

  std::int64_t block_;
  ThreadPool& pool_;
  bool keep_ = false;
  std::vector<ScaleGroup> groups_;
  std::map<const void*, Source> sources_;
};

}  // namespace bittern::quant
