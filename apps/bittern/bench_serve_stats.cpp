// Only complete requests count for latencies; tokens of abandoned ones count for throughput, since the server made
// them.
#include "bench_serve_stats.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "quant/html_page.h"
#include "quant/svg_scatter.h"
#include "table.h"

namespace bittern::cli {
namespace {

double mean_gap(const RequestRecord& record) {
  return (record.tokens.back() - record.tokens.front()) / static_cast<double>(record.tokens.size() - 1);
}

bool meets(const RequestRecord& record, const Slo& slo) {
  if (slo.ttft > 0 && record.ttft() > slo.ttft) return false;
  return slo.gap <= 0 || record.tokens.size() < 2 || mean_gap(record) <= slo.gap;
}

OrderedJson to_json(const Latency& latency) {
  return {{"count", latency.count}, {"mean", latency.mean}, {"p50", latency.p50},
          {"p90", latency.p90},     {"p99", latency.p99},   {"max", latency.max}};
}

std::string milliseconds(double seconds) { return fmt::format("{:.1f}", seconds * 1e3); }

struct Named {
  const char* name;
  const char* key;
  const Latency LoadSummary::*latency;
};
constexpr Named kLatencies[] = {{"time to first token", "ttft_seconds", &LoadSummary::ttft},
                                {"gap between tokens", "gap_seconds", &LoadSummary::gap},
                                {"mean gap of a request", "token_time_seconds", &LoadSummary::token_time},
                                {"whole request", "total_seconds", &LoadSummary::total}};

std::string slo_text(const Slo& slo) {
  std::string text;
  if (slo.ttft > 0) text = fmt::format("first token within {} ms", milliseconds(slo.ttft));
  if (slo.gap > 0) text += fmt::format("{}mean gap within {} ms", text.empty() ? "" : ", ", milliseconds(slo.gap));
  return text;
}

quant::Scatter first_token_plot(const LoadResult& result) {
  quant::Scatter scatter{.label = "Time to first token over the run",
                         .x_axis = "start of the request (s)",
                         .y_axis = "time to first token (ms)"};
  for (const RequestRecord& record : result.records) {
    if (!record.complete()) continue;
    scatter.points.push_back({.x = record.start, .y = record.ttft() * 1e3});
  }
  return scatter;
}

// Output tokens per second in 60 buckets or one a second, whichever is coarser.
quant::Scatter throughput_plot(const LoadResult& result) {
  quant::Scatter scatter{
      .label = "Output tokens per second over the run", .x_axis = "time (s)", .y_axis = "output tokens per second"};
  const double width = std::max(1.0, result.seconds / 60);
  std::vector<int> counts(static_cast<std::size_t>(result.seconds / width) + 1);
  for (const RequestRecord& record : result.records) {
    for (const double at : record.tokens) ++counts[static_cast<std::size_t>(at / width)];
  }
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const double from = static_cast<double>(i) * width, length = std::min(width, result.seconds - from);
    if (length < width / 4) continue;  // a sliver at the end would be noise
    scatter.points.push_back({.x = from + length / 2, .y = counts[i] / length, .joined = true});
  }
  return scatter;
}

std::string latency_table(const LoadSummary& summary) {
  std::string rows = "<table>" + quant::table_head({"ms", "p50", "p90", "p99", "max", "mean"}) + "<tbody>";
  for (const Named& row : kLatencies) {
    const Latency& latency = summary.*row.latency;
    rows += "<tr>" + quant::table_cell(row.name);
    for (const double value : {latency.p50, latency.p90, latency.p99, latency.max, latency.mean}) {
      rows += quant::table_cell(milliseconds(value));
    }
    rows += "</tr>";
  }
  return rows + "</tbody></table>";
}

std::string figure(const quant::Scatter& scatter) {
  return "<h2>" + quant::escape_html(scatter.label) + "</h2><figure>" + quant::to_svg(scatter) + "</figure>";
}

}  // namespace

Latency latency_of(std::vector<double> values) {
  if (values.empty()) return {};
  std::ranges::sort(values);
  const auto rank = [&](double part) {
    return values[static_cast<std::size_t>(std::ceil(part * static_cast<double>(values.size()))) - 1];
  };
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  return {values.size(), sum / static_cast<double>(values.size()), rank(0.5), rank(0.9), rank(0.99), values.back()};
}

LoadSummary summarize(const LoadResult& result, const Slo& slo) {
  LoadSummary summary;
  summary.seconds = result.seconds;
  summary.client_cpu = result.client_cpu;
  std::vector<double> ttft, gaps, means, totals;
  for (const RequestRecord& record : result.records) {
    ++summary.sent;
    summary.output_tokens += record.output_tokens;
    if (record.cancelled) ++summary.cancelled;
    if (!record.error.empty()) {
      ++summary.failed;
      LoadSummary::Failures& failures = summary.errors[record.error];
      if (failures.count++ == 0) failures.first = record.message;
    }
    if (!record.complete()) continue;
    ++summary.complete;
    if (!record.counted) ++summary.uncounted;
    summary.prompt_tokens += record.prompt_tokens;
    summary.cached_tokens += record.cached_tokens;
    ttft.push_back(record.ttft());
    totals.push_back(record.end - record.start);
    for (std::size_t i = 1; i < record.tokens.size(); ++i) gaps.push_back(record.tokens[i] - record.tokens[i - 1]);
    if (record.tokens.size() > 1) means.push_back(mean_gap(record));
    if (slo.asked() && meets(record, slo)) ++summary.within_slo;
  }
  summary.ttft = latency_of(std::move(ttft));
  summary.gap = latency_of(std::move(gaps));
  summary.token_time = latency_of(std::move(means));
  summary.total = latency_of(std::move(totals));
  return summary;
}

OrderedJson to_json(const LoadSummary& summary, const Slo& slo) {
  OrderedJson json = {{"seconds", summary.seconds},
                      {"requests",
                       {{"sent", summary.sent},
                        {"complete", summary.complete},
                        {"cancelled", summary.cancelled},
                        {"failed", summary.failed}}},
                      {"prompt_tokens", summary.prompt_tokens},
                      {"cached_tokens", summary.cached_tokens},
                      {"output_tokens", summary.output_tokens},
                      {"counted_by_server", summary.uncounted == 0 && summary.complete > 0},
                      {"output_tokens_per_second", summary.output_rate()},
                      {"requests_per_second", summary.request_rate()}};
  for (const Named& row : kLatencies) json[row.key] = to_json(summary.*row.latency);
  if (slo.asked()) {
    json["slo"] = {{"ttft_seconds", slo.ttft > 0 ? OrderedJson(slo.ttft) : OrderedJson()},
                   {"mean_gap_seconds", slo.gap > 0 ? OrderedJson(slo.gap) : OrderedJson()},
                   {"met", summary.within_slo},
                   {"goodput_requests_per_second", summary.goodput()}};
  }
  json["errors"] = OrderedJson::object();
  for (const auto& [kind, failures] : summary.errors) {
    json["errors"][kind] = {{"count", failures.count}, {"first", failures.first}};
  }
  json["client_cores"] = summary.client_cpu;
  return json;
}

std::string text_of(const LoadSummary& summary, const Slo& slo) {
  std::string text = fmt::format("{} requests in {:.1f} s: {} complete, {} cancelled, {} failed\n", summary.sent,
                                 summary.seconds, summary.complete, summary.cancelled, summary.failed);
  text += fmt::format("{:.1f} output tok/s, {:.2f} requests/s; {} prompt tokens ({} cached), {} output tokens{}\n\n",
                      summary.output_rate(), summary.request_rate(), summary.prompt_tokens, summary.cached_tokens,
                      summary.output_tokens,
                      summary.uncounted > 0
                          ? fmt::format("; {} replies had no usage: their events are counted", summary.uncounted)
                          : "");
  Table table({"ms", "p50", "p90", "p99", "max", "mean"});
  for (const Named& row : kLatencies) {
    const Latency& latency = summary.*row.latency;
    table.row({row.name, milliseconds(latency.p50), milliseconds(latency.p90), milliseconds(latency.p99),
               milliseconds(latency.max), milliseconds(latency.mean)});
  }
  text += table.text();
  if (slo.asked()) {
    text += fmt::format("\ngoodput: {:.2f} requests/s, {} of {} with {}\n", summary.goodput(), summary.within_slo,
                        summary.complete, slo_text(slo));
  }
  for (const auto& [kind, failures] : summary.errors) {
    text += fmt::format("\n{} x {}: {}\n", failures.count, kind, failures.first);
  }
  if (summary.client_cpu > 0.8) {
    text += fmt::format("\nthis client used {:.0f} % of a core: latencies may be its own\n", summary.client_cpu * 100);
  }
  return text;
}

std::string load_page(const LoadResult& result, const LoadSummary& summary, const Slo& slo,
                      const OrderedJson& options) {
  std::string page = quant::page_head("A server under load") + "<body><main><h1>A server under load</h1><dl>";
  page += quant::page_fact("throughput", fmt::format("{:.1f} output tokens/s, {:.2f} requests/s", summary.output_rate(),
                                                     summary.request_rate()));
  page += quant::page_fact("requests", fmt::format("{} complete, {} cancelled, {} failed in {:.1f} s", summary.complete,
                                                   summary.cancelled, summary.failed, summary.seconds));
  if (slo.asked()) {
    page += quant::page_fact("goodput", fmt::format("{:.2f} requests/s with {}", summary.goodput(), slo_text(slo)));
  }
  for (const auto& [kind, failures] : summary.errors) {
    page += quant::page_fact(kind, fmt::format("{} times, first: {}", failures.count, failures.first));
  }
  for (const auto& [name, value] : options.items()) page += quant::page_fact(name, value.dump());
  page += "</dl>" + latency_table(summary) + figure(first_token_plot(result)) + figure(throughput_plot(result));
  return page + "</main></body></html>\n";
}

}  // namespace bittern::cli
