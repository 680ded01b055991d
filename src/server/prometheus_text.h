// Counters and histograms that many threads add to without a lock, and Prometheus' text format (version 0.0.4) of them.
// Families are made once; series come and go with their labels. It knows no metric by name.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace bittern::server {

/// {{"model", "mini"}, ...} in the order in which they are written.
using MetricLabels = std::vector<std::pair<std::string_view, std::string_view>>;
/// `{model="mini",route="/v1"}` with values escaped; empty for no labels.
std::string label_text(const MetricLabels& labels);

class MetricCounter {
 public:
  void add(double amount = 1) { value_.fetch_add(amount, std::memory_order_relaxed); }
  double value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<double> value_{0};
};

class MetricHistogram {
 public:
  /// `bounds`: upper ends of the buckets, rising; they outlive the histogram.
  explicit MetricHistogram(std::span<const double> bounds) : bounds_(bounds), counts_(bounds.size() + 1) {}
  void observe(double value);

  std::span<const double> bounds() const { return bounds_; }
  /// Of the bucket alone, not of those below it; the last is what lies beyond every bound.
  std::uint64_t count(std::size_t bucket) const { return counts_[bucket].load(std::memory_order_relaxed); }
  double sum() const { return sum_.load(std::memory_order_relaxed); }

 private:
  std::span<const double> bounds_;
  std::vector<std::atomic<std::uint64_t>> counts_;
  std::atomic<double> sum_{0};
};

/// All series of one metric, by the text of their labels. References stay valid.
template <class Series>
class MetricFamily {
 public:
  template <class... Args>
  Series& with(const MetricLabels& labels, Args&&... args) {
    const std::lock_guard lock(mutex_);
    auto& series = series_[label_text(labels)];
    if (!series) series = std::make_unique<Series>(std::forward<Args>(args)...);
    return *series;
  }
  template <class Visit>
  void each(const Visit& visit) const {
    const std::lock_guard lock(mutex_);
    for (const auto& [labels, series] : series_) visit(labels, *series);
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::string, std::unique_ptr<Series>> series_;
};

/// Writes families one after another.
class PrometheusText {
 public:
  void header(std::string_view name, std::string_view type, std::string_view help);
  void value(std::string_view name, std::string_view labels, double value);
  void histogram(std::string_view name, std::string_view labels, const MetricHistogram& histogram);
  std::string take() { return std::move(text_); }

 private:
  std::string text_;
};

}  // namespace bittern::server
