// `bittern tune`: the four steps from the model as it is to quantized weights and KV cache, each measured for quality,
// memory and speed on this machine, and the recommendation that follows. The rule is quant/decision.h's, measuring is
// tune_measure.h's; here are options, the loop and what is printed.
#include <bittern/error.h>
#include <bittern/version.h>
#include <fmt/core.h>

#include <cstdio>
#include <filesystem>
#include <memory>

#include "base/atomic_file.h"
#include "base/strings.h"
#include "eval_output.h"
#include "model_source.h"
#include "options.h"
#include "quant/calibrate.h"
#include "quant/tune_page.h"
#include "table.h"
#include "tune_conditions.h"
#include "tune_state.h"
#include "tune_weights.h"
#include "verb.h"

namespace bittern::cli {
namespace {

std::string bytes(std::int64_t count) { return human_bytes(static_cast<std::uint64_t>(count)); }

// --- the loop ---

class Tuning {
 public:
  explicit Tuning(const TuneOptions& options)
      : options_(options),
        files_(open_model(options.conditions.run.model)),
        text_(read_tune_text(*files_, options)),
        conditions_(make_conditions(options, *files_, text_)),
        backend_(make_backend(conditions_.run.backend, conditions_.run.device)->description()),
        weights_(files_, std::filesystem::path(options.output) / "models", options.calibration,
                 conditions_.run.device.threads),
        decision_(decision_options()),
        state_(std::filesystem::path(options.output) / "tune.json", quant::model_fingerprint(*files_),
               conditions_json(conditions_, options, text_, backend_)) {}

  /// The rest of what can be known to fail before the first measurement.
  void check() {
    for (const std::string& kv : options_.kv) {
      if (kv == "auto") throw Error(ErrorCode::invalid_argument, "--kv auto is what plain has already");
      const auto backend = make_backend(conditions_.run.backend, conditions_.run.device);
      parse_kv_format(kv, *backend);
    }
    if (state_.dropped() > 0) {
      std::fprintf(stderr, "bittern: %zu measurements in %s were made under other conditions and are made anew\n",
                   state_.dropped(), options_.output.c_str());
    }
  }

  void run() {
    std::fprintf(stderr, "tuning %s on %s: quality bar %s, objective %s%s\n", files_->origin().c_str(),
                 backend_.c_str(), quant::to_text(decision_.options().bar).c_str(), options_.objective.c_str(),
                 decision_.options().memory_limit > 0
                     ? (", memory at most " + bytes(decision_.options().memory_limit)).c_str()
                     : "");
    while (const auto candidate = decision_.next()) {
      TuneMeasurement measurement = measured(*candidate);
      if (candidate->plain()) plain_ = measurement;
      decision_.add(std::move(measurement.measured));
      const quant::DecisionStep& step = decision_.path().back();
      std::fprintf(stderr, "  %s: %s\n", candidate->name().c_str(), step.reason.c_str());
    }
  }

  const quant::Decision& decision() const { return decision_; }

  quant::TunePage page() const {
    const EngineOptions& engine = conditions_.run.engine;
    quant::TunePage page;
    page.model = files_->origin();
    page.command = command();
    page.facts = {
        {"Machine", backend_},
        {"Text",
         fmt::format("{}, {} windows of {} tokens at most", text_.name, conditions_.windows, conditions_.window)},
        {"Tasks", conditions_.tasks.empty()
                      ? "none were given"
                      : fmt::format("{} of {}", conditions_.tasks.size(),
                                    options_.tasks.empty() ? kEmbeddedHeldoutTasks : options_.tasks)},
        {"Recall", conditions_.recall ? fmt::format("names planted in {} tokens, {} at each of {} depths",
                                                    conditions_.recall->lengths.front(), conditions_.recall->samples,
                                                    conditions_.recall->depths.size())
                                      : "not measured"},
        {"Long generations",
         fmt::format("{} of {} tokens, greedy", conditions_.generations, conditions_.generation_tokens)},
        {"Served with", fmt::format("{} sequences of {} tokens", engine.max_sequences, engine.context)},
        {"Speed", fmt::format("prompts of {} tokens, {} generated, median of {}", conditions_.speed.prompt,
                              conditions_.speed.output, conditions_.speed.repeats)},
        {"Bittern", kVersion}};
    return page;
  }

  /// What runs the recommendation; "" when there is none.
  std::string command() const {
    const quant::Measured* best = decision_.recommended();
    if (!best) return "";
    const std::string model = best->candidate.weights.empty() ? options_.conditions.run.model
                                                              : weights_.directory_of(best->candidate.weights).string();
    const EngineOptions& engine = conditions_.run.engine;
    std::string text = "bittern chat";
    if (!model.empty()) text += " " + model;
    const std::string& kv = best->candidate.kv.empty() ? conditions_.run.kv_cache : best->candidate.kv;
    if (kv != "auto") text += " --kv-cache " + kv;
    if (conditions_.run.device.compute != "auto") text += " --compute " + conditions_.run.device.compute;
    return text + fmt::format(" --context {} --max-sequences {}", engine.context, engine.max_sequences);
  }

 private:
  quant::DecisionOptions decision_options() const {
    quant::DecisionOptions decision;
    decision.bar = quant::quality_bar_from_text(options_.quality);
    decision.memory_limit = options_.memory == "0" ? 0 : parse_bytes("--memory", options_.memory);
    decision.objective = parse_enum<quant::Objective>(options_.objective, "--objective");
    decision.kv = options_.kv;
    decision.weights = weights_to_try();
    return decision;
  }

  /// What was named must be possible; where nothing was, a model that cannot be quantized so is tuned without.
  std::vector<std::string> weights_to_try() const {
    for (const std::string& name : options_.weights) weights_.check(name);
    if (!options_.weights.empty()) return options_.weights;
    try {
      weights_.check(kUsualWeights);
      return {kUsualWeights};
    } catch (const Error& error) {
      if (error.code() != ErrorCode::unsupported) throw;
      std::fprintf(stderr, "bittern: quantized weights are not tried: %s\n", error.what());
      return {};
    }
  }

  TuneMeasurement measured(const quant::Candidate& candidate) {
    const std::string name = candidate.name();
    if (const Json* known = state_.find(name)) return measurement_from_json(*known, options_.output + ", " + name);
    const std::string model = candidate.weights.empty() ? "" : weights_.make(candidate.weights);
    std::fprintf(stderr, "measuring %s\n", name.c_str());
    EvalRun run("measuring " + name);
    TuneMeasurement measurement =
        measure_candidate(conditions_, candidate, model, candidate.plain() ? nullptr : &plain_, run);
    state_.put(name, to_json(measurement));
    return measurement;
  }

  const TuneOptions& options_;
  std::shared_ptr<const ModelFiles> files_;
  quant::Evaluation text_;
  TuneConditions conditions_;
  std::string backend_;
  TuneWeights weights_;
  quant::Decision decision_;
  TuneState state_;
  TuneMeasurement plain_;
};

// --- what is printed ---

Json result_json(const Tuning& tuning) {
  const quant::Decision& decision = tuning.decision();
  Json json = {{"objective", enum_name(decision.options().objective)},
               {"quality_bar", quant::to_text(decision.options().bar)},
               {"memory_limit", decision.options().memory_limit},
               {"reason", decision.reason()},
               {"measured", Json::array()},
               {"path", Json::array()},
               {"pareto", Json::array()}};
  for (const quant::Measured& m : decision.measured()) {
    Json row = Json::parse(bittern::to_json(m).dump());
    row["name"] = m.candidate.name();
    row["passes"] = decision.passes(m);
    row["fits"] = decision.fits(m);
    json["measured"].push_back(std::move(row));
  }
  for (const quant::DecisionStep& step : decision.path())
    json["path"].push_back(
        {{"name", step.candidate.name()}, {"outcome", step.outcome_name()}, {"reason", step.reason}});
  for (const quant::Measured* m : decision.pareto()) json["pareto"].push_back(m->candidate.name());
  const quant::Measured* best = decision.recommended();
  json["recommended"] = best ? Json(best->candidate.name()) : Json();
  json["command"] = best ? Json(tuning.command()) : Json();
  return json;
}

void print_text(const Tuning& tuning, bool explain) {
  const quant::Decision& decision = tuning.decision();
  Table table(quant::tune_columns(decision));
  for (const quant::Measured& m : decision.measured()) table.row(quant::tune_cells(decision, m));
  std::printf("%s", table.text().c_str());
  if (explain) {
    for (const quant::DecisionStep& step : decision.path()) {
      std::printf("  %s: %s; %s\n", step.candidate.name().c_str(), std::string(step.outcome_name()).c_str(),
                  step.reason.c_str());
    }
    std::string front;
    for (const quant::Measured* m : decision.pareto()) front += (front.empty() ? "" : ", ") + m->candidate.name();
    std::printf("  no other beats in loss, memory and speed at once: %s\n", front.c_str());
  }
  const quant::Measured* best = decision.recommended();
  if (!best) {
    std::printf("nothing is recommended: %s\n", decision.reason().c_str());
    return;
  }
  std::printf("recommended: %s: %s\n  %s\n", best->candidate.name().c_str(), decision.reason().c_str(),
              tuning.command().c_str());
}

int run_tune(const TuneOptions& options) {
  Tuning tuning(options);
  tuning.check();
  tuning.run();
  if (!options.html.empty()) write_file_atomically(options.html, quant::tune_page(tuning.page(), tuning.decision()));
  if (options.json) {
    std::printf("%s\n", result_json(tuning).dump(2).c_str());
  } else {
    print_text(tuning, options.explain);
    if (!options.html.empty()) std::printf("  report in %s\n", options.html.c_str());
  }
  return tuning.decision().recommended() ? 0 : 1;
}

void add_rule_options(CLI::App& command, TuneOptions& o) {
  add_option(command, "--output,-o", o.output,
             "directory for measurements and quantized models, kept for the next run");
  add_option(command, "--quality", o.quality,
             "the most that may be lost: strict, balanced, loose, or bars such as "
             "kl=0.01,top1=0.97,tasks=0.02,recall=0.02,repeat=0.05");
  add_option(command, "--memory", o.memory, "the most memory that weights, KV cache and a step may take; 0: no limit");
  add_option(command, "--objective", o.objective,
             "throughput: tokens per second of many sequences; latency: of one; memory: the least of it");
  add_option(command, "--kv", o.kv, "KV cache formats to try, in order")->delimiter(',');
  add_option(
      command, "--weights", o.weights,
      "quantizations to try, in order: SCHEME-ALGORITHM or SCHEME-ALGORITHM-gGROUP, 4.25bpw-gptq for mixed bits; "
      "without it, w4a16-awq-g128 where the model can be quantized so")
      ->delimiter(',');
  add_option(command, "--explain", o.explain, "print the path that the rule took");
}

void add_measurement_options(CLI::App& command, TuneOptions& o) {
  TuneConditions& c = o.conditions;
  const char* group = "What is measured";
  add_option(
      command, "--data", o.data,
      "text or JSON lines that quality is measured on; by default the held-out text that ships with the program, for "
      "the embedded model its own")
      ->group(group);
  add_option(command, "--windows", c.windows, "windows of the text, of 512 tokens each")
      ->check(CLI::Range(1, 1 << 20))
      ->group(group);
  add_option(command, "--tasks", o.tasks,
             "tasks with checkable answers, as `bittern eval tasks` reads them; the embedded model has its own")
      ->group(group);
  add_option(command, "--task-limit", o.task_limit, "tasks to ask, spread evenly over the file; 0: all")
      ->check(CLI::Range(0, 1 << 30))
      ->group(group);
  add_option(command, "--recall-length", o.recall_length,
             "tokens that names are planted in, at most the context; 0: the context, at most 2048")
      ->check(CLI::Range(0, 1 << 24))
      ->group(group);
  add_option(command, "--recall-samples", o.recall_samples, "names at each of five depths")
      ->check(CLI::Range(1, 1000))
      ->group(group);
  add_option(command, "--no-recall", o.no_recall, "do not measure recall")->group(group);
  add_option(command, "--generations", c.generations, "long generations; 0: none")
      ->check(CLI::Range(0, 64))
      ->group(group);
  add_option(command, "--generation-tokens", c.generation_tokens, "tokens of each, cut to the context")
      ->check(CLI::Range(8, 1 << 20))
      ->group(group);
  add_option(command, "--speed-repeats", c.speed.repeats, "measurements of speed, of which the median counts")
      ->check(CLI::Range(1, 100))
      ->group(group);
  add_option(command, "--calibration-data", o.calibration.data, "for the quantizations; as `bittern quantize --data`")
      ->group(group);
  add_option(command, "--calibration-samples", o.calibration.samples, "as `bittern quantize --samples`")
      ->check(CLI::Range(1, 100000))
      ->group(group);
}

}  // namespace

std::function<int()> declare_tune(CLI::App& command) {
  auto options = std::make_shared<TuneOptions>();
  options->conditions.run.engine.max_sequences = 8;
  add_model_argument(command, options->conditions.run.model);
  add_rule_options(command, *options);
  add_measurement_options(command, *options);
  add_option(command, "--json", options->json, "print JSON");
  add_option(command, "--html", options->html, "write the result as a web page to this file");
  add_engine_options(command, options->conditions.run);
  add_device_options(command, options->conditions.run);
  return [options] { return run_tune(*options); };
}

}  // namespace bittern::cli
