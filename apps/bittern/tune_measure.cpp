// One measurement after the other, each with a model of its own that is gone before the next: what is held at once is
// the model as it is and the candidate, while they are compared.
#include "tune_measure.h"

#include <bittern/error.h>

#include <algorithm>
#include <memory>

#include "eval_answers.h"
#include "eval_model.h"
#include "eval_recall.h"
#include "model_loader.h"
#include "quant/generation_quality.h"
#include "quant/quality_summary.h"

namespace bittern::cli {
namespace {

void check_stopped(const EvalRun& run) {
  if (run.stopped()) throw Error(ErrorCode::cancelled, "stopped; the same command goes on after the last measurement");
}

class Measuring {
 public:
  Measuring(const TuneConditions& conditions, RunOptions options, const TuneMeasurement* plain, EvalRun& run)
      : conditions_(conditions), options_(std::move(options)), plain_(plain), run_(run) {}

  TuneMeasurement measure() {
    measure_text();
    check_stopped(run_);
    if (!conditions_.tasks.empty()) measure_tasks();
    check_stopped(run_);
    if (conditions_.recall) measure_recall();
    check_stopped(run_);
    measure_engine();
    check_stopped(run_);
    return std::move(result_);
  }

 private:
  quant::PplOptions ppl_options() const {
    quant::PplOptions options;
    options.context = static_cast<int>(conditions_.window);
    options.bos = conditions_.bos;
    options.max_windows = conditions_.windows;
    options.stop = [this] { return run_.stopped(); };
    return options;
  }

  void measure_text() {
    EvalModel candidate(options_, conditions_.window);
    if (!plain_) {
      result_.measured.perplexity = quant::perplexity(candidate.source(), conditions_.text, ppl_options()).perplexity();
      return;
    }
    EvalModel reference(conditions_.run, conditions_.window);
    const quant::KlResult result =
        quant::kl_divergence(reference.source(), candidate.source(), conditions_.text, ppl_options());
    check_stopped(run_);
    const quant::KlSummary summary = quant::summarize(result, {}, 0);
    quant::Measured& m = result_.measured;
    m.perplexity = result.candidate.perplexity();
    m.kl = summary.kl.value;
    m.same_top = summary.same_top.value;
    if (!summary.kl.interval.known()) return;
    m.kl_low = summary.kl.interval.low;
    m.kl_high = summary.kl.interval.high;
  }

  void measure_tasks() {
    const TaskAnswers answers = answer_tasks(options_, conditions_.tasks, conditions_.task_tokens, run_, [] {});
    check_stopped(run_);
    const auto right = std::ranges::count_if(answers.answers, [](const auto& answer) { return answer->right; });
    result_.measured.tasks = static_cast<double>(right) / static_cast<double>(answers.answers.size());
  }

  void measure_recall() {
    const auto answers = answer_recall(options_, *conditions_.recall, run_);
    check_stopped(run_);
    const auto recalled = std::ranges::count_if(answers, &quant::RecallAnswer::recalled);
    result_.measured.recall = static_cast<double>(recalled) / static_cast<double>(answers.size());
  }

  void measure_engine() {
    const std::unique_ptr<server::LoadedModel> model = load(options_);
    const MemoryPlan& plan = model->engine().plan();
    quant::Measured& m = result_.measured;
    m.weight_bytes = plan.weights;
    m.kv_bytes = plan.kv_total();
    m.peak_bytes = plan.total();
    generate(model->engine());
    engine::SpeedOptions options = conditions_.speed;
    options.progress = [this](int, int) { check_stopped(run_); };
    const engine::Speed speed = engine::measure_speed(model->engine(), model->model().config().vocab, options);
    m.prefill = speed.prefill;
    m.decode = speed.decode;
    m.batched = speed.batched;
  }

  /// Greedy continuations of pieces of the text, spread over it.
  void generate(Engine& engine) {
    if (conditions_.generations == 0) return;
    std::vector<std::unique_ptr<TokenStream>> streams;
    for (int i = 0; i < conditions_.generations; ++i) streams.push_back(engine.submit(long_request(i)));
    for (const auto& stream : streams) {
      std::vector<std::int32_t> tokens;
      while (const auto event = stream->next()) {
        if (event->finish == FinishReason::failed) throw Error(ErrorCode::internal, event->error);
        if (event->token >= 0) tokens.push_back(event->token);
        if (run_.stopped()) stream->cancel();
      }
      result_.generations.push_back(std::move(tokens));
    }
    judge_generations();
  }

  Request long_request(int index) const {
    const std::size_t prompt = static_cast<std::size_t>(conditions_.generation_prompt);
    const std::size_t room = conditions_.text.size() - std::min(conditions_.text.size(), prompt);
    const std::size_t begin =
        room * static_cast<std::size_t>(index) / static_cast<std::size_t>(conditions_.generations);
    Request request;
    for (std::size_t i = begin; i < std::min(begin + prompt, conditions_.text.size()); ++i)
      request.prompt.push_back(conditions_.text[i]);
    request.sampling.temperature = 0;
    request.sampling.max_tokens = conditions_.generation_tokens;
    return request;
  }

  void judge_generations() {
    double repeated = 0, agreement = 0;
    for (std::size_t i = 0; i < result_.generations.size(); ++i) {
      repeated += quant::repeated_share(result_.generations[i]);
      if (plain_) {
        agreement += static_cast<double>(quant::common_prefix(result_.generations[i], plain_->generations.at(i)));
      }
    }
    const auto count = static_cast<double>(result_.generations.size());
    result_.measured.repeat = repeated / count;
    if (plain_) result_.measured.agreement = agreement / count;
  }

  const TuneConditions& conditions_;
  RunOptions options_;
  const TuneMeasurement* plain_;
  EvalRun& run_;
  TuneMeasurement result_;
};

}  // namespace

Json to_json(const TuneMeasurement& measurement) {
  return {{"measured", Json::parse(bittern::to_json(measurement.measured).dump())},
          {"generations", measurement.generations}};
}

TuneMeasurement measurement_from_json(const Json& json, const std::string& what) {
  detail::require_object(json, what);
  TuneMeasurement measurement;
  from_json(json.at("measured"), measurement.measured, what);
  measurement.generations = json.at("generations").get<std::vector<std::vector<std::int32_t>>>();
  return measurement;
}

RunOptions run_options_of(const TuneConditions& conditions, const quant::Candidate& candidate,
                          const std::string& model) {
  RunOptions options = conditions.run;
  if (!candidate.weights.empty()) options.model = model;
  if (!candidate.kv.empty()) options.kv_cache = candidate.kv;
  return options;
}

TuneMeasurement measure_candidate(const TuneConditions& conditions, const quant::Candidate& candidate,
                                  const std::string& model, const TuneMeasurement* plain, EvalRun& run) {
  TuneMeasurement result = Measuring(conditions, run_options_of(conditions, candidate, model), plain, run).measure();
  result.measured.candidate = candidate;
  return result;
}

}  // namespace bittern::cli
