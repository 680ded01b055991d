// The format: https://prometheus.io/docs/instrumenting/exposition_formats/ (buckets are cumulative there).
#include "server/prometheus_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

namespace bittern::server {
namespace {

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\' || c == '"') out += '\\';
    if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
  return out;
}

/// `{model="mini"}` and `le="0.1"` as `{model="mini",le="0.1"}`.
std::string with_bound(std::string_view labels, std::string_view bound) {
  const std::string_view inner = labels.size() < 2 ? std::string_view() : labels.substr(1, labels.size() - 2);
  return fmt::format("{{{}{}le=\"{}\"}}", inner, inner.empty() ? "" : ",", bound);
}

}  // namespace

std::string label_text(const MetricLabels& labels) {
  if (labels.empty()) return {};
  std::string text = "{";
  for (const auto& [name, value] : labels) {
    fmt::format_to(std::back_inserter(text), "{}{}=\"{}\"", text.size() > 1 ? "," : "", name, escaped(value));
  }
  return text + "}";
}

void MetricHistogram::observe(double value) {
  const auto at = std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin();
  counts_[static_cast<std::size_t>(at)].fetch_add(1, std::memory_order_relaxed);
  sum_.fetch_add(value, std::memory_order_relaxed);
}

void PrometheusText::header(std::string_view name, std::string_view type, std::string_view help) {
  fmt::format_to(std::back_inserter(text_), "# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
}

void PrometheusText::value(std::string_view name, std::string_view labels, double value) {
  fmt::format_to(std::back_inserter(text_), "{}{} {}\n", name, labels, value);
}

void PrometheusText::histogram(std::string_view name, std::string_view labels, const MetricHistogram& histogram) {
  std::uint64_t total = 0;
  for (std::size_t i = 0; i <= histogram.bounds().size(); ++i) {
    total += histogram.count(i);
    const bool last = i == histogram.bounds().size();
    const std::string bound = last ? "+Inf" : fmt::format("{}", histogram.bounds()[i]);
    fmt::format_to(std::back_inserter(text_), "{}_bucket{} {}\n", name, with_bound(labels, bound), total);
  }
  fmt::format_to(std::back_inserter(text_), "{}_sum{} {}\n{}_count{} {}\n", name, labels, histogram.sum(), name, labels,
                 total);
}

}  // namespace bittern::server
