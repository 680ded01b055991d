// What the records of a load say: percentiles of latencies, throughput, goodput under a service level objective, and
// errors by kind; as JSON, as a table, and as a page with plots.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/json.h"
#include "bench_serve_client.h"

namespace bittern::cli {

/// Seconds. Percentiles are nearest-rank: a value that was really measured.
struct Latency {
  std::size_t count = 0;
  double mean = 0, p50 = 0, p90 = 0, p99 = 0, max = 0;
};
Latency latency_of(std::vector<double> values);

struct Slo {
  double ttft = 0;  // seconds; 0: none
  double gap = 0;   // mean gap between a request's tokens
  bool asked() const { return ttft > 0 || gap > 0; }
};

struct LoadSummary {
  double seconds = 0, client_cpu = 0;
  std::size_t sent = 0, complete = 0, cancelled = 0, failed = 0, uncounted = 0;
  std::int64_t prompt_tokens = 0, cached_tokens = 0, output_tokens = 0;
  // Of complete requests. `gap`: between events of tokens, all requests together; `token_time`: a request's mean gap.
  Latency ttft, gap, token_time, total;
  std::size_t within_slo = 0;
  struct Failures {
    std::size_t count = 0;
    std::string first;  // message of the first one
  };
  std::map<std::string, Failures> errors;

  double output_rate() const { return seconds > 0 ? static_cast<double>(output_tokens) / seconds : 0; }
  double request_rate() const { return seconds > 0 ? static_cast<double>(complete) / seconds : 0; }
  double goodput() const { return seconds > 0 ? static_cast<double>(within_slo) / seconds : 0; }
};

LoadSummary summarize(const LoadResult& result, const Slo& slo);
OrderedJson to_json(const LoadSummary& summary, const Slo& slo);
std::string text_of(const LoadSummary& summary, const Slo& slo);
/// An HTML page by itself: figures, percentiles, time to first token and throughput over the run.
std::string load_page(const LoadResult& result, const LoadSummary& summary, const Slo& slo, const OrderedJson& options);

}  // namespace bittern::cli
