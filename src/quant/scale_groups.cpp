// Watching a branch: groups by data flow, sums by channel.
#include "quant/scale_groups.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace bittern::quant {

void GroupProbe::norm_output(const nn::RmsNorm& norm, const Tensor& x) { sources_[x.data] = {&norm, nullptr, {}}; }

void GroupProbe::channel_source(const Tensor& x, const nn::Linear& producer, std::span<const std::int64_t> rows) {
  sources_[x.data] = {nullptr, &producer, {rows.begin(), rows.end()}};
}

// Linears that take what one norm or one linear makes are one group, whatever runs between them: a factor that is
// folded there reaches all of them. Others are groups of their own. On later runs they are found again by their first
// linear.
ScaleGroup& GroupProbe::group_of(const nn::Linear& linear, const Tensor& x, bool& first_of_group) {
  for (ScaleGroup& group : groups_) {
    const auto found = std::ranges::find(group.linears, &linear);
    if (found == group.linears.end()) continue;
    first_of_group = found == group.linears.begin();
    return group;
  }
  const auto source = sources_.find(x.data);
  const bool known = source != sources_.end() && (source->second.norm || source->second.producer);
  if (known) {
    const auto same = std::ranges::find_if(groups_, [&](const ScaleGroup& group) {
      return group.norm == source->second.norm && group.producer == source->second.producer && group.width == x.cols();
    });
    if (same != groups_.end()) {
      same->linears.push_back(&linear);
      first_of_group = false;
      return *same;
    }
  }
  ScaleGroup group;
  group.linears = {&linear};
  if (known) {
    group.norm = source->second.norm;
    group.producer = source->second.producer;
    group.producer_rows = source->second.rows;
  }
  group.width = x.cols();
  group.abs_sum.resize(static_cast<std::size_t>(group.width));
  group.abs_max.resize(static_cast<std::size_t>(group.width));
  group.block = std::min(block_, group.width);
  if (group.block > 0) {
    const std::int64_t blocks = (group.width + group.block - 1) / group.block;
    group.gram.resize(static_cast<std::size_t>(blocks * group.block * group.block));
  }
  first_of_group = true;
  groups_.push_back(std::move(group));
  return groups_.back();
}

void GroupProbe::linear_input(const nn::Linear& linear, const Tensor& x) {
  BITTERN_CHECK(x.dtype == DType::f32 && x.rank == 2);
  bool first_of_group = false;
  ScaleGroup& group = group_of(linear, x, first_of_group);
  if (!first_of_group) return;
  if (keep_) {
    group.search.resize(static_cast<std::size_t>(x.size()));
    for (std::int64_t t = 0; t < x.rows(); ++t)
      std::copy_n(x.row<float>(t), group.width, group.search.data() + t * group.width);
  } else {
    count(group, x);
  }
}

void GroupProbe::count(ScaleGroup& group, const Tensor& x) {
  group.tokens += x.rows();
  pool_.parallel_ranges(group.width, 16, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t t = 0; t < x.rows(); ++t) {
      const float* row = x.row<float>(t);
      for (std::int64_t c = begin; c < end; ++c) {
        const float magnitude = std::fabs(row[c]);
        group.abs_sum[static_cast<std::size_t>(c)] += static_cast<double>(magnitude);
        group.abs_max[static_cast<std::size_t>(c)] = std::max(group.abs_max[static_cast<std::size_t>(c)], magnitude);
      }
    }
  });
  if (group.block > 0) add_gram(group, x);
}

void GroupProbe::add_gram(ScaleGroup& group, const Tensor& x) {
  const std::int64_t g = group.block, blocks = (group.width + g - 1) / g;
  pool_.parallel_for(static_cast<int>(blocks), [&](int b, int) {
    const std::int64_t begin = b * g, n = std::min(g, group.width - begin);
    float* gram = group.gram.data() + b * g * g;
    for (std::int64_t t = 0; t < x.rows(); ++t) {
      const float* row = x.row<float>(t) + begin;
      for (std::int64_t i = 0; i < n; ++i) {
        const float factor = row[i];
        float* to = gram + i * g;
        for (std::int64_t j = 0; j < n; ++j) to[j] += factor * row[j];
      }
    }
  });
}

}  // namespace bittern::quant
