// One table of metrics, written once for each prefix that was asked for. Names and buckets after the prefix are those
// of vLLM's documentation, so that its dashboards and autoscalers work.
#include "server/server_metrics.h"

#include <bittern/version.h>

#include <chrono>
#include <optional>
#include <vector>

#include "base/sysinfo.h"
#include "server/model_pool.h"
#include "server/prometheus_text.h"

namespace bittern::server {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kFirstTokenBounds[] = {.001, .005, .01, .02, .04, .06, .08, .1, .25, .5,  .75,
                                        1,    2.5,  5,   7.5, 10,  20,  40,  80, 160, 640, 2560};
constexpr double kGapBounds[] = {.01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80};
constexpr double kWholeBounds[] = {.3, .5, .8, 1,  1.5, 2,   2.5, 5,   10,   15,  20,
                                   30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680};
constexpr double kTokenBounds[] = {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000};

double seconds(Clock::duration time) { return std::chrono::duration<double>(time).count(); }

/// What is counted for one model.
struct ModelSeries {
  explicit ModelSeries(std::string_view model) : labels(label_text({{"model_name", model}})) {}

  std::string labels;
  MetricCounter prompt_tokens, generated_tokens, cached_tokens;
  MetricHistogram first_token{kFirstTokenBounds}, gap{kGapBounds}, whole{kWholeBounds};
  MetricHistogram decode{kWholeBounds};
  MetricHistogram prompt_length{kTokenBounds}, output_length{kTokenBounds};
};

using Finished = MetricFamily<MetricCounter>;

class Timer final : public RequestTimer {
 public:
  Timer(ModelSeries& series, Finished& finished, std::string model)
      : series_(series), finished_(finished), model_(std::move(model)), start_(Clock::now()) {}
  ~Timer() override {
    if (!done_) finish("cancelled");
  }

  void prompt(std::int64_t tokens, std::int64_t cached_tokens) override {
    series_.prompt_tokens.add(static_cast<double>(tokens));
    series_.cached_tokens.add(static_cast<double>(cached_tokens));
    series_.prompt_length.observe(static_cast<double>(tokens));
  }

  void token() override {
    const auto now = Clock::now();
    series_.generated_tokens.add();
    if (tokens_++ == 0) {
      first_ = now;
      series_.first_token.observe(seconds(now - start_));
    } else {
      series_.gap.observe(seconds(now - last_));
    }
    last_ = now;
  }

  void finish(std::string_view reason) override {
    if (done_) return;
    done_ = true;
    finished_.with({{"model_name", model_}, {"finished_reason", reason}}).add();
    series_.whole.observe(seconds(Clock::now() - start_));
    series_.output_length.observe(static_cast<double>(tokens_));
    if (tokens_ > 0) series_.decode.observe(seconds(last_ - first_));
  }

 private:
  ModelSeries& series_;
  Finished& finished_;
  std::string model_;
  Clock::time_point start_, first_, last_;
  std::int64_t tokens_ = 0;
  bool done_ = false;
};

struct EngineRow {
  const char* name;
  const char* type;
  const char* help;
  double (*value)(const EngineStats& stats);
};

double share(std::int64_t part, std::int64_t whole) {
  return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0;
}

// Read from the engines when somebody scrapes.
constexpr EngineRow kEngineRows[] = {
    {"num_requests_running", "gauge", "samples that take part in steps",
     [](const EngineStats& s) { return static_cast<double>(s.running); }},
    {"num_requests_waiting", "gauge", "samples that wait for their first step, or for blocks",
     [](const EngineStats& s) { return static_cast<double>(s.waiting); }},
    {"kv_cache_usage_perc", "gauge", "part of the KV blocks in use, 0 to 1",
     [](const EngineStats& s) { return share(s.blocks_used, s.blocks_total); }},
    {"kv_blocks_used", "gauge", "KV blocks in use",
     [](const EngineStats& s) { return static_cast<double>(s.blocks_used); }},
    {"kv_blocks_total", "gauge", "KV blocks there are",
     [](const EngineStats& s) { return static_cast<double>(s.blocks_total); }},
    {"num_preemptions_total", "counter", "sequences that gave their blocks back and were computed again",
     [](const EngineStats& s) { return static_cast<double>(s.preemptions); }},
    {"kv_blocks_cached", "gauge", "free KV blocks that hold prefixes, of which they are robbed when needed",
     [](const EngineStats& s) { return static_cast<double>(s.blocks_cached); }},
    {"prefix_cache_queries_total", "counter", "tokens of prompts looked up in the prefix cache",
     [](const EngineStats& s) { return static_cast<double>(s.prefix_queries); }},
    {"prefix_cache_hits_total", "counter", "tokens of prompts found there",
     [](const EngineStats& s) { return static_cast<double>(s.prefix_hits); }},
    {"spec_decode_num_draft_tokens_total", "counter", "tokens guessed by speculation and run",
     [](const EngineStats& s) { return static_cast<double>(s.drafted_tokens); }},
    {"spec_decode_num_accepted_tokens_total", "counter", "of them, those that were right",
     [](const EngineStats& s) { return static_cast<double>(s.accepted_tokens); }},
    {"engine_stalls_total", "counter", "steps that took longer than a step may",
     [](const EngineStats& s) { return static_cast<double>(s.stalls); }},
    {"engine_steps_total", "counter", "steps of the engine",
     [](const EngineStats& s) { return static_cast<double>(s.steps); }},
};

struct CounterRow {
  const char* name;
  const char* help;
  MetricCounter ModelSeries::*counter;
};
constexpr CounterRow kCounterRows[] = {
    {"prompt_tokens_total", "tokens of prompts, those from the prefix cache included", &ModelSeries::prompt_tokens},
    {"generation_tokens_total", "tokens that clients were sent", &ModelSeries::generated_tokens},
    {"prompt_tokens_cached_total", "tokens of prompts that the prefix cache held", &ModelSeries::cached_tokens},
};

struct HistogramRow {
  const char* name;
  const char* help;
  MetricHistogram ModelSeries::*histogram;
};
constexpr HistogramRow kHistogramRows[] = {
    {"time_to_first_token_seconds", "from the request's arrival to its first token", &ModelSeries::first_token},
    {"inter_token_latency_seconds", "from one token of a sample to the next", &ModelSeries::gap},
    {"e2e_request_latency_seconds", "from the request's arrival to the end of the sample", &ModelSeries::whole},
    {"request_decode_time_seconds", "from the first token of a sample to its last", &ModelSeries::decode},
    {"request_prompt_tokens", "tokens of a request's prompt", &ModelSeries::prompt_length},
    {"request_generation_tokens", "tokens of a sample", &ModelSeries::output_length},
};

class Metrics final : public ServerMetrics {
 public:
  explicit Metrics(bool vllm_names) {
    prefixes_.push_back("bittern:");
    if (vllm_names) prefixes_.push_back("vllm:");
  }

  std::unique_ptr<RequestTimer> start(std::string_view model) override {
    return std::make_unique<Timer>(models_.with({{"model_name", model}}, model), finished_, std::string(model));
  }

  void http(std::string_view route, int status, double time) override {
    const std::string code = std::to_string(status);
    http_.with({{"route", route}, {"status", code}}).add();
    http_seconds_.with({{"route", route}}, std::span<const double>(kWholeBounds)).observe(time);
  }
  void disconnected(std::string_view route) override { disconnects_.with({{"route", route}}).add(); }
  void accept_failed() override { accept_failures_.add(); }
  void log_failed() override { log_failures_.add(); }

  std::string render(const ModelPool& models) override {
    PrometheusText out;
    const auto loaded = models.loaded();
    for (const std::string& prefix : prefixes_) {
      engine_gauges(out, prefix, loaded);
      counted(out, prefix);
    }
    own(out);
    return out.take();
  }

 private:
  using Loaded = std::vector<std::pair<std::string, std::shared_ptr<LoadedModel>>>;

  static void engine_gauges(PrometheusText& out, const std::string& prefix, const Loaded& loaded) {
    std::vector<std::pair<std::string, EngineStats>> stats;
    for (const auto& [name, model] : loaded) {
      stats.emplace_back(label_text({{"model_name", name}}), model->engine().stats());
    }
    for (const EngineRow& row : kEngineRows) {
      out.header(prefix + row.name, row.type, row.help);
      for (const auto& [labels, values] : stats) out.value(prefix + row.name, labels, row.value(values));
    }
  }

  void counted(PrometheusText& out, const std::string& prefix) const {
    for (const CounterRow& row : kCounterRows) {
      out.header(prefix + row.name, "counter", row.help);
      models_.each([&](const std::string& labels, const ModelSeries& s) {
        out.value(prefix + row.name, labels, (s.*row.counter).value());
      });
    }
    out.header(prefix + "request_success_total", "counter", "samples that ended, by the reason");
    finished_.each([&](const std::string& labels, const MetricCounter& counter) {
      out.value(prefix + "request_success_total", labels, counter.value());
    });
    for (const HistogramRow& row : kHistogramRows) {
      out.header(prefix + row.name, "histogram", row.help);
      models_.each([&](const std::string& labels, const ModelSeries& s) {
        out.histogram(prefix + row.name, labels, s.*row.histogram);
      });
    }
  }

  void own(PrometheusText& out) const {
    out.header("bittern:http_requests_total", "counter", "HTTP requests that ended, by route and status");
    http_.each([&](const std::string& labels, const MetricCounter& c) {
      out.value("bittern:http_requests_total", labels, c.value());
    });
    out.header("bittern:http_request_seconds", "histogram", "time from a request's header to the end of its reply");
    http_seconds_.each([&](const std::string& labels, const MetricHistogram& h) {
      out.histogram("bittern:http_request_seconds", labels, h);
    });
    out.header("bittern:http_disconnects_total", "counter", "clients that left before the end of their reply");
    disconnects_.each([&](const std::string& labels, const MetricCounter& c) {
      out.value("bittern:http_disconnects_total", labels, c.value());
    });
    out.header("bittern:accept_failures_total", "counter", "connections that could not be accepted");
    out.value("bittern:accept_failures_total", "", accept_failures_.value());
    out.header("bittern:log_failures_total", "counter", "lines of the access log that could not be written");
    out.value("bittern:log_failures_total", "", log_failures_.value());
    out.header("bittern:resident_memory_bytes", "gauge", "memory of this process in RAM");
    out.value("bittern:resident_memory_bytes", "", static_cast<double>(resident_bytes()));
    out.header("bittern:build_info", "gauge", "always 1; the version is a label");
    out.value("bittern:build_info", label_text({{"version", kVersion}}), 1);
  }

  std::vector<std::string> prefixes_;
  MetricFamily<ModelSeries> models_;
  Finished finished_;
  MetricFamily<MetricCounter> http_, disconnects_;
  MetricFamily<MetricHistogram> http_seconds_;
  MetricCounter accept_failures_, log_failures_;
};

}  // namespace

std::unique_ptr<ServerMetrics> make_server_metrics(bool vllm_names) { return std::make_unique<Metrics>(vllm_names); }

}  // namespace bittern::server
