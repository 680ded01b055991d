// Prometheus' text format, and what a request's timer counts.
#include <gtest/gtest.h>

#include "server/model_pool.h"
#include "server/prometheus_text.h"
#include "server/server_metrics.h"

namespace bittern::server {
namespace {

class NoModels final : public ModelPool {
 public:
  std::shared_ptr<LoadedModel> acquire(std::string_view) override { return nullptr; }
  std::vector<ModelCard> list() const override { return {}; }
  void start_load(std::string_view) override {}
  void when_settled(std::string_view, std::function<void()>) override {}
  void load(std::string_view) override {}
  void unload(std::string_view) override {}
  std::vector<std::pair<std::string, std::shared_ptr<LoadedModel>>> loaded() const override { return {}; }
};

bool has_line(const std::string& text, const std::string& line) {
  return ("\n" + text).find("\n" + line + "\n") != std::string::npos;
}

TEST(PrometheusText, EscapesLabels) {
  EXPECT_EQ(label_text({{"a", "x\"y\\z\n"}, {"b", ""}}), "{a=\"x\\\"y\\\\z\\n\",b=\"\"}");
  EXPECT_EQ(label_text({}), "");
}

TEST(PrometheusText, BucketsAreCumulativeAndBoundsInclusive) {
  constexpr double kBounds[] = {1, 2.5};
  MetricHistogram histogram{kBounds};
  for (const double value : {0.5, 1.0, 2.0, 9.0}) histogram.observe(value);
  PrometheusText out;
  out.histogram("h", "{m=\"x\"}", histogram);
  EXPECT_EQ(out.take(),
            "h_bucket{m=\"x\",le=\"1\"} 2\nh_bucket{m=\"x\",le=\"2.5\"} 3\nh_bucket{m=\"x\",le=\"+Inf\"} 4\n"
            "h_sum{m=\"x\"} 12.5\nh_count{m=\"x\"} 4\n");
}

TEST(ServerMetrics, CountsARequestUnderBothNames) {
  const auto metrics = make_server_metrics(true);
  {
    const auto timer = metrics->start("m");
    timer->prompt(7, 3);
    for (int i = 0; i < 3; ++i) timer->token();
    timer->finish("stop");
  }
  metrics->start("m");  // goes at once: cancelled
  const std::string text = metrics->render(NoModels());
  for (const char* prefix : {"bittern:", "vllm:"}) {
    const std::string p = prefix;
    EXPECT_TRUE(has_line(text, p + "prompt_tokens_total{model_name=\"m\"} 7")) << text;
    EXPECT_TRUE(has_line(text, p + "generation_tokens_total{model_name=\"m\"} 3"));
    EXPECT_TRUE(has_line(text, p + "time_to_first_token_seconds_count{model_name=\"m\"} 1"));
    EXPECT_TRUE(has_line(text, p + "inter_token_latency_seconds_count{model_name=\"m\"} 2"));
    EXPECT_TRUE(has_line(text, p + "request_success_total{model_name=\"m\",finished_reason=\"stop\"} 1"));
    EXPECT_TRUE(has_line(text, p + "request_success_total{model_name=\"m\",finished_reason=\"cancelled\"} 1"));
  }
}

TEST(ServerMetrics, TellsVllmNamesOnlyWhenAsked) {
  EXPECT_EQ(make_server_metrics(false)->render(NoModels()).find("vllm:"), std::string::npos);
}

}  // namespace
}  // namespace bittern::server
