// Two ways of counting share one choice: bits per weight count bytes on disk, a limit of memory counts what the backend
// will hold.
#include "quant/bit_budget.h"

#include <bittern/error.h>
#include <bittern/version.h>

#include <algorithm>
#include <cmath>

#include "base/strings.h"
#include "quant/calibrate.h"
#include "quant/knapsack.h"
#include "quant/resident.h"
#include "quant/scheme_choice.h"
#include "quant/sensitivity.h"

namespace bittern::quant {
namespace {

constexpr int kProbeBits = 4;

[[noreturn]] void invalid(std::string message, std::string hint = {}) {
  throw Error(ErrorCode::invalid_argument, std::move(message), std::move(hint));
}

void check_budget(const Budget& budget) {
  if ((budget.bits_per_weight > 0) == (budget.bytes > 0)) invalid("a budget is bits per weight or bytes, one of them");
  if (!std::isfinite(budget.bits_per_weight) || budget.bits_per_weight < 0 || budget.bytes < 0)
    invalid("the budget must be positive");
  if (budget.bytes > 0 && budget.serving.empty()) invalid("a budget of bytes needs to know what serving takes");
  if (budget.bits.empty()) invalid("the budget has no bits to choose from");
  for (const int bits : budget.bits) {
    if (bits < 3 || bits > 8) invalid("the budget chooses from 3 to 8 bits, and " + std::to_string(bits) + " is not");
  }
}

std::string bytes_text(std::int64_t bytes) {
  return human_bytes(static_cast<std::uint64_t>(std::max<std::int64_t>(bytes, 0)));
}

/// The linears and what may be chosen for each.
class BudgetChoice {
 public:
  BudgetChoice(const std::shared_ptr<const ModelFiles>& files, const Job& draft, const QuantizeOptions& options)
      : files_(files), draft_(draft), options_(options), budget_(*options.budget), backend_(make_cpu(options.threads)) {
    check_budget(budget_);
    const Scheme& base = resolve_scheme(options, true);
    std::vector<int> bits = budget_.bits;
    std::ranges::sort(bits);
    bits.erase(std::ranges::unique(bits).begin(), bits.end());
    for (const int b : bits) schemes_.push_back(&resolve_override({"*", std::to_string(b)}, base));
    probe_ = &resolve_override({"*", std::to_string(kProbeBits)}, base);
    free_ = free_linears(draft, options);
    for (const LayerJob& layer : draft.layers) {
      for (const LinearTask& linear : layer.linears) {
        if (std::ranges::find(free_, linear.name, &LinearTask::name) == free_.end()) fixed_.push_back(linear);
      }
    }
    if (free_.empty()) invalid("the budget has nothing to choose: --override names every linear");
    count_sizes();
  }

  /// Before anything is measured.
  void require_reachable() const {
    std::int64_t least = 0;
    for (const LinearTask& linear : free_) least += cost(linear, *schemes_.front());
    if (budget_.bytes == 0) {
      if (least <= capacity(nullptr)) return;
      const double reachable = 8.0 * static_cast<double>(least + fixed_cost_) / parameters();
      char text[160];
      std::snprintf(text, sizeof(text),
                    "a budget of %g bits per weight cannot be reached: with %d bits everywhere it is %.3f",
                    budget_.bits_per_weight, schemes_.front()->bits, std::ceil(reachable * 1000) / 1000);
      throw Error(ErrorCode::out_of_memory, text, "scales and zeros count; larger groups or --symmetric have fewer");
    }
    const Budget::Serving* smallest = &*std::ranges::min_element(
        budget_.serving, {}, [](const Budget::Serving& s) { return s.kv_bytes + s.step_bytes; });
    if (least <= capacity(smallest)) return;
    const std::int64_t weights = least + fixed_cost_ + beside_;
    throw Error(ErrorCode::out_of_memory,
                bytes_text(budget_.bytes) + " cannot be reached: the least is " +
                    bytes_text(weights + smallest->kv_bytes + smallest->step_bytes) + ", weights " +
                    bytes_text(weights) + " with " + std::to_string(schemes_.front()->bits) +
                    " bits everywhere, KV cache " + bytes_text(smallest->kv_bytes) + " in " + smallest->kv_cache +
                    ", a step " + bytes_text(smallest->step_bytes),
                "give more, a shorter --context or fewer --sequences");
  }

  Sensitivity measure(const std::filesystem::path& state, QuantizeSink& sink) const {
    SensitivityOptions s;
    s.probe = probe_;
    s.schemes = schemes_;
    s.group_size = options_.group_size;
    for (const Budget::Serving& serving : budget_.serving) s.kv_caches.push_back(serving.kv_cache);
    s.tokens = budget_.tokens;
    s.threads = options_.threads;
    s.state = state;
    s.key = key(s);
    s.progress = [&](int done, int layers) { sink.measuring(done, layers); };
    require_disk(state);
    return measure_sensitivity(files_, free_, options_.calibration, s);
  }

  struct Result {
    SchemesByName schemes;
    BudgetPlan plan;
  };

  Result choose(const Sensitivity& sensitivity) const {
    Result best;
    if (budget_.bytes == 0) {
      best = choose_for(sensitivity, nullptr);
    } else {
      for (const Budget::Serving& serving : budget_.serving) {
        Result candidate = choose_for(sensitivity, &serving);
        if (candidate.schemes.empty()) continue;
        if (best.schemes.empty() || candidate.plan.loss < best.plan.loss) best = std::move(candidate);
      }
    }
    best.plan.tokens = sensitivity.tokens;
    for (std::size_t i = 0; i < schemes_.size(); ++i) best.plan.uniform.push_back(uniform(sensitivity, i));
    return best;
  }

 private:
  static std::unique_ptr<Backend> make_cpu(int threads) {
    BackendOptions options;
    options.threads = threads;
    return make_backend("cpu", options);
  }

  void count_sizes() {
    sizes_ = std::make_unique<ResidentSizes>(*backend_);
    if (budget_.bytes > 0) {
      const auto model = build_model(load_config(*files_));
      beside_ = resident_beside_linears(draft_, *model, *open_checkpoint(files_, Json()), *sizes_);
    }
    for (const LinearTask& linear : fixed_) fixed_cost_ += cost(linear, *linear.scheme);
  }

  std::int64_t cost(const LinearTask& linear, const Scheme& scheme) const {
    if (budget_.bytes > 0) return sizes_->linear(format_of(linear, scheme, options_.group_size), linear.out, linear.in);
    return disk_bytes(linear, scheme);
  }

  std::int64_t disk_bytes(const LinearTask& linear, const Scheme& scheme) const {
    std::int64_t bytes = 0;
    for (const TensorSpec& spec : scheme.tensors(linear, options_.group_size)) bytes += spec.bytes();
    return bytes;
  }

  double parameters() const { return static_cast<double>(draft_.plan.quantized_parameters); }

  /// What the free linears may cost together.
  std::int64_t capacity(const Budget::Serving* serving) const {
    if (!serving)
      return static_cast<std::int64_t>(std::floor(budget_.bits_per_weight * parameters() / 8)) - fixed_cost_;
    return budget_.bytes - serving->kv_bytes - serving->step_bytes - beside_ - fixed_cost_;
  }

  Json key(const SensitivityOptions& s) const {
    Json names = Json::array(), schemes = Json::array();
    for (const LinearTask& linear : free_) names.push_back(linear.name);
    for (const Scheme* scheme : s.schemes) schemes.push_back(std::string(scheme->name));
    return {{"version", kVersion},
            {"model_fingerprint", model_fingerprint(*files_)},
            {"calibration_tokens_sha256", tokens_sha256(options_.calibration)},
            {"linears", std::move(names)},
            {"probe", std::string(s.probe->name)},
            {"schemes", std::move(schemes)},
            {"group_size", s.group_size},
            {"kv_caches", s.kv_caches},
            {"tokens", s.tokens}};
  }

  void require_disk(const std::filesystem::path& state) const {
    const std::int64_t needed = draft_.plan.sensitivity_disk_bytes;
    std::error_code failure;
    const std::filesystem::path folder = std::filesystem::absolute(state).parent_path();
    const auto space = std::filesystem::space(folder, failure);
    if (failure || space.available >= static_cast<std::uintmax_t>(needed)) return;
    throw Error(ErrorCode::io,
                "measuring sensitivity takes " + bytes_text(needed) + " in " + folder.string() + ", which has " +
                    human_bytes(space.available) + " free",
                "make room, choose an output on another disk, or fewer --sensitivity-tokens");
  }

  /// Linears that are chosen together: each by itself, or all that share an input.
  std::vector<std::vector<std::size_t>> units(const Sensitivity& sensitivity) const {
    std::vector<std::vector<std::size_t>> units;
    std::map<std::pair<int, int>, std::size_t> known;
    for (std::size_t i = 0; i < free_.size(); ++i) {
      const LinearSensitivity& linear = sensitivity.linears[i];
      const auto [unit, fresh] = known.try_emplace({linear.layer, linear.shared_input}, units.size());
      if (!budget_.shared_inputs_alike || fresh) units.emplace_back();
      units[budget_.shared_inputs_alike ? unit->second : units.size() - 1].push_back(i);
    }
    return units;
  }

  Result choose_for(const Sensitivity& sensitivity, const Budget::Serving* serving) const {
    const auto groups = units(sensitivity);
    std::vector<std::vector<KnapsackOption>> items;
    for (const auto& group : groups) {
      std::vector<KnapsackOption> options(schemes_.size());
      for (std::size_t o = 0; o < schemes_.size(); ++o) {
        for (const std::size_t i : group) {
          options[o].cost += cost(free_[i], *schemes_[o]);
          options[o].loss += sensitivity.linears[i].loss(o);
        }
      }
      items.push_back(std::move(options));
    }
    const std::vector<std::size_t> chosen = solve_knapsack(items, capacity(serving));
    Result result;
    std::vector<std::size_t> options(free_.size());
    std::int64_t cost = fixed_cost_;
    for (std::size_t g = 0; g < chosen.size(); ++g) {
      cost += items[g][chosen[g]].cost;
      for (const std::size_t i : groups[g]) options[i] = chosen[g];
    }
    for (std::size_t i = 0; i < free_.size() && !chosen.empty(); ++i) {
      const double loss = sensitivity.linears[i].loss(options[i]);
      result.schemes[free_[i].name] = schemes_[options[i]];
      result.plan.linears.push_back({free_[i].name, free_[i].layer, schemes_[options[i]]->bits, loss});
      result.plan.loss += loss;
    }
    result.plan.bits_per_weight = budget_.bits_per_weight;
    result.plan.bytes = budget_.bytes;
    if (serving) describe_serving(sensitivity, *serving, cost, result.plan);
    return result;
  }

  void describe_serving(const Sensitivity& sensitivity, const Budget::Serving& serving, std::int64_t linears,
                        BudgetPlan& plan) const {
    plan.kv_cache = serving.kv_cache;
    plan.kv_loss = sensitivity.kv.at(serving.kv_cache);
    plan.loss += plan.kv_loss;
    plan.weight_bytes = linears + beside_;
    plan.kv_bytes = serving.kv_bytes;
    plan.step_bytes = serving.step_bytes;
  }

  BudgetPlan::Uniform uniform(const Sensitivity& sensitivity, std::size_t scheme) const {
    BudgetPlan::Uniform result{schemes_[scheme]->bits, 0, 0};
    std::int64_t bytes = 0;
    for (const LinearTask& linear : fixed_) bytes += disk_bytes(linear, *linear.scheme);
    for (std::size_t i = 0; i < free_.size(); ++i) {
      bytes += disk_bytes(free_[i], *schemes_[scheme]);
      result.loss += sensitivity.linears[i].loss(scheme);
    }
    result.bits_per_weight = 8.0 * static_cast<double>(bytes) / parameters();
    return result;
  }

  const std::shared_ptr<const ModelFiles>& files_;
  const Job& draft_;
  const QuantizeOptions& options_;
  const Budget& budget_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<ResidentSizes> sizes_;
  std::vector<const Scheme*> schemes_;  // fewest bits first
  const Scheme* probe_ = nullptr;
  std::vector<LinearTask> free_, fixed_;
  std::int64_t fixed_cost_ = 0, beside_ = 0;
};

}  // namespace

Job job_within_budget(const std::shared_ptr<const ModelFiles>& files, const Job& draft, const QuantizeOptions& options,
                      const std::filesystem::path& state, QuantizeSink& sink) {
  const BudgetChoice choice(files, draft, options);
  choice.require_reachable();
  sink.draft(draft.plan);
  const BudgetChoice::Result chosen = choice.choose(choice.measure(state, sink));
  Job job = make_job(files, options, &chosen.schemes);
  job.plan.budget = chosen.plan;
  return job;
}

}  // namespace bittern::quant
