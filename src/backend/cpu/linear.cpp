// The kernels of linear, how one is chosen, and how its work is shared among threads: outputs are split in units of a
// few tiles, and for many rows also rows in units that keep a panel's sums in cache.
#include "backend/cpu/linear.h"

#include <bittern/error.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "base/check.h"
#include "base/strings.h"

namespace bittern::cpu {
namespace {

constexpr Index kAnyRows = std::numeric_limits<Index>::max();
constexpr Index kDirectMaxRows = 8;  // from here on a panel, decoded once, is faster (docs/performance.md)

bool any_kind(TileKind) { return true; }

Index divide_up(Index a, Index b) { return (a + b - 1) / b; }

}  // namespace

LinearRunner::LinearRunner(IsaLevel isa, bool deterministic, const std::string& pin, ThreadPool& pool)
    : table_(kernel_table(isa)), deterministic_(deterministic), pool_(pool) {
  const std::string suffix = std::string("_") + table_.isa;
  kernels_ = {
      {"direct" + suffix, any_kind, true, 1, kDirectMaxRows, &LinearRunner::run_direct},
      {"panel" + suffix, any_kind, true, kDirectMaxRows + 1, kAnyRows, &LinearRunner::run_panel},
      {"dequantize", any_kind, true, 1, kAnyRows, &LinearRunner::run_dequantize},
  };
  if (pin.empty()) return;
  std::vector<std::string> names;
  for (const Kernel& kernel : kernels_) {
    if (pin == "gemm=" + kernel.name) pinned_ = &kernel;
    names.push_back("gemm=" + kernel.name);
  }
  if (pinned_ == nullptr) {
    throw Error(ErrorCode::invalid_argument, "there is no kernel '" + pin + "' on this machine",
                "the kernels are " + join(names, ", "));
  }
  if (deterministic && !pinned_->exact) {
    throw Error(ErrorCode::invalid_argument, "kernel '" + pin + "' gives results that depend on the batch",
                "drop the pin or the deterministic mode");
  }
}

const LinearRunner::Kernel& LinearRunner::choose(TileKind kind, Index rows) const {
  if (pinned_ != nullptr && pinned_->supports(kind)) return *pinned_;
  for (const Kernel& kernel : kernels_) {
    if (deterministic_ && !kernel.exact) continue;
    if (kernel.supports(kind) && rows >= kernel.min_rows && rows <= kernel.max_rows) return kernel;
  }
  return kernels_.back();
}

void LinearRunner::run(const LinearCall& call) {
  if (call.rows == 0) return;
  BITTERN_CHECK(call.w->tiled(), "linear over a table that was prepared for embed alone");
  (this->*choose(call.w->kind(), call.rows).run)(call);
}

std::vector<KernelChoice> LinearRunner::choices() const {
  constexpr std::pair<TileKind, const char*> kKinds[] = {
      {TileKind::f32, "f32"}, {TileKind::bf16, "bf16"}, {TileKind::f16, "f16"}, {TileKind::w4, "int4"}};
  std::vector<KernelChoice> result;
  for (const auto& [kind, name] : kKinds) {
    const Kernel& one = choose(kind, 1);
    const Kernel& many = choose(kind, 512);
    result.push_back({std::string("linear ") + name + " decode", one.name});
    result.push_back({std::string("linear ") + name + " prefill", many.name});
  }
  return result;
}

// Kernels read x in whole steps; when a row ends inside one, the rows are copied with zeros behind them.
const float* LinearRunner::padded_x(const LinearCall& call, Index& stride) {
  const Index in = call.w->in(), step = call.w->step_inputs();
  stride = call.x_stride;
  if (in % step == 0) return call.x;
  stride = divide_up(in, step) * step;
  float* copy = x_.get<float>(static_cast<std::size_t>(call.rows * stride));
  for (Index r = 0; r < call.rows; ++r) {
    std::memcpy(copy + r * stride, call.x + r * call.x_stride, static_cast<std::size_t>(in) * sizeof(float));
    std::fill(copy + r * stride + in, copy + (r + 1) * stride, 0.0f);
  }
  return copy;
}

void LinearRunner::sum_groups(const LinearCall& call, LinearArgs& args) {
  float* sums = sums_.get<float>(static_cast<std::size_t>(call.rows * args.groups));
  args.group_sums = sums;
  const auto rows = [&](Index begin, Index end, int) {
    for (Index r = begin; r < end; ++r) {
      table_.linear.group_sums(args.x + r * args.x_stride, args.inputs, args.group, sums + r * args.groups);
    }
  };
  if (call.rows < 16) return rows(0, call.rows, 0);
  pool_.parallel_ranges(call.rows, 1, rows);
}

LinearArgs LinearRunner::arguments(const LinearCall& call) {
  const CpuWeight& w = *call.w;
  LinearArgs args{};
  args.x = padded_x(call, args.x_stride);
  args.out = call.out;
  args.out_stride = call.out_stride;
  args.bias = call.bias;
  args.tiles = w.data();
  args.tile_bytes = w.tile_bytes();
  args.inputs = w.in();
  args.outputs = w.out();
  args.group = w.group();
  args.groups = w.groups();
  args.scales_f16 = w.scales_f16();
  args.row_end = call.rows;
  args.tile_end = w.tile_count();
  if (w.kind() == TileKind::w4) sum_groups(call, args);
  return args;
}

void LinearRunner::run_direct(const LinearCall& call) {
  const LinearArgs args = arguments(call);
  const LinearFn kernel = table_.linear.direct[static_cast<int>(call.w->kind())];
  // Small units let both ends of a short weight finish together; a unit still holds all streams of the kernel.
  const Index unit = call.w->kind() == TileKind::w4 ? std::max(1, table_.linear.direct_tiles / 2) : table_.linear.direct_tiles;
  pool_.parallel_for(static_cast<int>(divide_up(args.tile_end, unit)), [&](int task, int) {
    LinearArgs part = args;
    part.tile_begin = task * unit;
    part.tile_end = std::min(args.tile_end, part.tile_begin + unit);
    kernel(&part);
  });
}

void LinearRunner::run_panel(const LinearCall& call) {
  const LinearArgs args = arguments(call);
  const LinearFn kernel = table_.linear.panel[static_cast<int>(call.w->kind())];
  float* scratch = panels_.get<float>(static_cast<std::size_t>(pool_.size() * kPanelScratch));
  const Index unit = table_.linear.panel_tiles, columns = divide_up(args.tile_end, unit);
  const Index row_parts = divide_up(call.rows, kPanelMaxRows), rows_per_part = divide_up(call.rows, row_parts);
  pool_.parallel_for(static_cast<int>(columns * row_parts), [&](int task, int worker) {
    LinearArgs part = args;
    part.tile_begin = task % columns * unit;
    part.tile_end = std::min(args.tile_end, part.tile_begin + unit);
    part.row_begin = task / columns * rows_per_part;
    part.row_end = std::min(call.rows, part.row_begin + rows_per_part);
    part.scratch = scratch + worker * kPanelScratch;
    kernel(&part);
  });
}

void LinearRunner::run_dequantize(const LinearCall& call) {
  const Index in = call.w->in();
  float* decoded = panels_.get<float>(static_cast<std::size_t>(pool_.size() * in));
  pool_.parallel_for(static_cast<int>(call.w->out()), [&](int output, int worker) {
    float* row = decoded + worker * in;
    call.w->decode_row(output, row);
    for (Index r = 0; r < call.rows; ++r) {
      float sum = 0;
      for (Index k = 0; k < in; ++k) sum += row[k] * call.x[r * call.x_stride + k];
      call.out[r * call.out_stride + output] = call.bias != nullptr ? sum + call.bias[output] : sum;
    }
  });
}

}  // namespace bittern::cpu
