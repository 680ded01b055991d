// One layer under GPTQ: for every group of linears that share an input, run the branch for the Hessian, round, put the
// rounded weights in place, go on; then the hidden states move on through the rounded branch.
#include "quant/gptq.h"

#include <bittern/error.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <optional>

#include "base/check.h"
#include "quant/awq_search.h"
#include "quant/folding.h"
#include "quant/gptq_solve.h"

namespace bittern::quant {
namespace {

/// Gathers what one linear takes.
class InputProbe final : public nn::Probe {
 public:
  /// `sample_tokens` inputs are kept, for losses to be measured on.
  InputProbe(const nn::Linear& linear, std::int64_t sample_tokens, Backend& backend, ThreadPool& pool)
      : hessian(linear.in()), linear_(linear), sample_tokens_(sample_tokens), backend_(backend), pool_(pool) {}

  void linear_input(const nn::Linear& linear, const Tensor& x) override {
    if (&linear != &linear_) return;
    hessian.add(x, backend_, pool_);
    const std::int64_t held = static_cast<std::int64_t>(sample.size()) / x.cols();
    for (std::int64_t t = 0; t < std::min(x.rows(), sample_tokens_ - held); ++t)
      sample.insert(sample.end(), x.row<float>(t), x.row<float>(t) + x.cols());
  }
  void kv(int, const Tensor&, const Tensor&) override {}

  Hessian hessian;
  std::vector<float> sample;  // (at most sample_tokens, width)

 private:
  const nn::Linear& linear_;
  std::int64_t sample_tokens_;
  Backend& backend_;
  ThreadPool& pool_;
};

class GptqLayer {
 public:
  explicit GptqLayer(LayerWork& work) : work_(work), calibrated_(*work.calibrated()), leaves_(work) {}

  void run() {
    calibrated_.model().load_layer(work_.layer());
    for (int branch = 0; branch < calibrated_.model().model().branches(); ++branch) run_branch(branch);
    for (const LinearTask& task : work_.linears()) {
      const Result& result = results_.at(&task);
      work_.store(task, work_.load(task), result.quantized, result.notes);
    }
    calibrated_.model().drop_layer(work_.layer());
  }

 private:
  struct Result {
    Weight quantized;
    StoreNotes notes;
  };

  void run_branch(int branch) {
    for (const auto& linears : groups_of(branch)) round_group(linears, branch);
    run_chunks(branch, nullptr, true);
  }

  void run_chunks(int branch, nn::Probe* probe, bool advance) {
    for (const auto& chunk : calibrated_.chunks()) {
      std::vector<float> added(static_cast<std::size_t>(chunk.tokens * calibrated_.hidden_size()));
      calibrated_.run(chunk, work_.layer(), branch, added.data(), probe);
      if (!advance) continue;
      float* hidden = calibrated_.hidden(chunk.first);
      for (std::size_t i = 0; i < added.size(); ++i) hidden[i] += added[i];
    }
  }

  /// Linears that share an input, in the order of the data.
  std::vector<std::vector<const nn::Linear*>> groups_of(int branch) {
    GroupProbe probe(0, work_.pool());
    const auto& chunk = calibrated_.chunks().front();
    std::vector<float> ignored(static_cast<std::size_t>(chunk.tokens * calibrated_.hidden_size()));
    calibrated_.run(chunk, work_.layer(), branch, ignored.data(), &probe);
    std::vector<std::vector<const nn::Linear*>> groups;
    for (ScaleGroup& group : probe.groups()) {
      std::erase_if(group.linears, [&](const nn::Linear* linear) { return !leaves_.of(linear).task; });
      if (!group.linears.empty()) groups.push_back(std::move(group.linears));
    }
    return groups;
  }

  void round_group(const std::vector<const nn::Linear*>& linears, int branch) {
    InputProbe probe(*linears.front(), calibrated_.search().tokens, calibrated_.backend(), work_.pool());
    run_chunks(branch, &probe, false);
    const GptqFactor factor = factor_of(std::move(probe.hessian), leaves_.of(linears.front()).task->name);
    for (const nn::Linear* linear : linears) round(leaves_.of(linear), factor, probe.sample);
  }

  GptqFactor factor_of(Hessian hessian, const std::string& name) {
    try {
      return {std::move(hessian), work_.gptq(), calibrated_.backend(), work_.pool()};
    } catch (const Error& error) {
      throw Error(error.code(), name + ": " + error.message(), error.hint());
    }
  }

  void round(Treatment& treatment, const GptqFactor& factor, std::span<const float> sample) {
    Result& result = results_[treatment.task];
    nn::Linear& leaf = *treatment.leaf;
    const GroupLayout layout = work_.layout(*treatment.task);
    const Weight weight = work_.load(*treatment.task);
    result.notes.loss_before = leaves_.relative_error(sample, leaf, rtn(weight, layout, work_.pool()));
    result.quantized = gptq(weight, factor, layout, calibrated_.backend(), work_.pool());
    auto packed = leaves_.prepare(leaf, result.quantized);
    const auto [error, energy] = leaves_.output_error(sample, leaf, *packed);
    result.notes.loss_after = energy > 0 ? error / energy : 0;
    leaf.exchange(std::move(packed));
    char text[64];
    std::snprintf(text, sizeof(text), "damping %g of the mean diagonal", factor.damping());
    result.notes.text = text;
    if (factor.dead() > 0)
      result.notes.text += "; " + std::to_string(factor.dead()) + " input channels are zero on all calibration tokens";
  }

  LayerWork& work_;
  CalibratedModel& calibrated_;
  LayerFolding leaves_;
  std::map<const LinearTask*, Result> results_;
};

}  // namespace

void run_gptq(LayerWork& work) {
  BITTERN_CHECK(work.calibrated() != nullptr);
  GptqLayer(work).run();
}

/// The layer packed as it is, its codes, and for the largest linear: the Hessian, the weight, a second copy of it with
/// its packing or the errors, the sample with two outputs.
std::int64_t gptq_peak_bytes(std::span<const LinearTask> layer, std::int64_t group_size, std::int64_t search_tokens) {
  std::int64_t all = 0, codes = 0, work = 0, pack = 0;
  for (const LinearTask& linear : layer) {
    const Scheme& scheme = *linear.scheme;
    const GroupLayout layout = layout_of(scheme, group_size);
    const std::int64_t size = linear.out * linear.in, groups = linear.in / group_inputs(linear, group_size) + 1;
    const std::int64_t one_code = size * (scheme.bits > 4 ? 2 : 1) / 2 + linear.out * groups * 5;
    all += size;
    codes += one_code;
    const std::int64_t measuring = 2 * one_code + search_tokens * 2 * linear.out * 4;
    const std::int64_t rounding = std::max(measuring, gptq_solve_bytes(linear.out, linear.in, layout));
    const std::int64_t sample = search_tokens * linear.in * 4;
    work = std::max(work,
                    4 * linear.in * linear.in + sample + std::max(Hessian::add_bytes(linear.in), 4 * size + rounding));
    pack = std::max(pack, 4 * size + scheme.pack_bytes(linear, group_size));
  }
  return 4 * all + codes + std::max(work, pack);
}

}  // namespace bittern::quant
