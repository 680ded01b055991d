// The kernels of linear, how one is chosen, and how its work is shared among threads: outputs are split in units of a
// few tiles, and for many rows also rows in units that keep a panel's sums in cache.
#include "backend/cpu/linear.h"

#include <bittern/error.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <numeric>

#include "base/check.h"
#include "base/strings.h"

namespace bittern::cpu {
namespace {

static_assert(kSmallestRounded == kSmallestRoundedActivation);
constexpr Index kAnyRows = std::numeric_limits<Index>::max();
constexpr Index kNeverChosen = kAnyRows;
constexpr Index kBf16DotMinRows = 16;
constexpr Index kFewInputs = 16384;  // up to here rounding x costs less than waking another thread
constexpr Index kDirectMaxRows = 8;  // from here on a panel, decoded once, is faster (docs/performance.md)

bool any_kind(const Packing&) { return true; }
bool w8_for_8_bits(const Packing& p) { return p.w8a8; }
bool int8_codes(const Packing& p) {
  const bool w8 = p.kind == TileKind::w8 && !p.w8a8;
  return (p.kind == TileKind::w4 || w8) && !p.offsets && p.group <= kInt8MaxGroup;
}
bool bf16_or_w4(const Packing& p) { return p.kind == TileKind::bf16 || p.kind == TileKind::w4; }

Index divide_up(Index a, Index b) { return (a + b - 1) / b; }

}  // namespace

LinearRunner::LinearRunner(IsaLevel isa, bool deterministic, const std::string& pin, const std::string& compute,
                           ThreadPool& pool)
    : table_(kernel_table(isa)),
      w8a8_(bittern::cpu::w8a8_table(isa)),
      deterministic_(deterministic),
      round_activations_(compute != "f32" && compute != "bf16"),
      pool_(pool) {
  const std::string suffix = std::string("_") + table_.isa;
  kernels_ = {
      {"direct" + suffix, any_kind, true, false, 1, kDirectMaxRows, &LinearRunner::run_direct},
      {"panel" + suffix, any_kind, true, false, kDirectMaxRows + 1, kAnyRows, &LinearRunner::run_panel},
      {"dequantize", any_kind, true, false, 1, kAnyRows, &LinearRunner::run_dequantize},
  };
  if (round_activations_) {
    const std::string level = isa >= IsaLevel::avx512vnni ? "_avx512vnni" : suffix;
    kernels_.insert(kernels_.begin(),
                    {"w8a8" + level, w8_for_8_bits, true, true, 1, kAnyRows, &LinearRunner::run_w8a8});
  }
  add_optional_kernels(isa, compute);
  if (!pin.empty()) pin_kernel(pin);
}

// The kernels that round activations, to bf16 or to 8 bits per group, run only where that was asked for: a model's
// answers must not depend on which instruction a machine happens to be fast at. (W8A8 is the weight's own wish, and the
// same on every machine.)
void LinearRunner::add_optional_kernels(IsaLevel isa, const std::string& compute) {
  const bool int8 = compute == "int8", bf16 = compute == "bf16";
  if (!int8 && !bf16 && !compute.empty() && compute != "auto" && compute != "f32") {
    throw Error(ErrorCode::invalid_argument, "there is no compute mode '" + compute + "'",
                "the modes are auto, f32, bf16, int8");
  }
  if ((int8 && isa < IsaLevel::avx512vnni) || (bf16 && isa < IsaLevel::avx512bf16)) {
    throw Error(ErrorCode::unsupported,
                "compute mode " + compute + " needs avx512" + (int8 ? "vnni" : "bf16") + ", and this backend runs at " +
                    std::string(isa_name(isa)),
                "use compute mode auto");
  }
  if (bf16 && deterministic_) {
    throw Error(ErrorCode::invalid_argument, "compute mode bf16 gives results that depend on the batch",
                "drop it or the deterministic mode");
  }
#if defined(__x86_64__)
  if (isa >= IsaLevel::avx512bf16) {
    const Index from = bf16 ? kBf16DotMinRows : kNeverChosen;  // it can be pinned all the same
    kernels_.insert(kernels_.begin(),
                    {"bf16dot_avx512bf16", bf16_or_w4, false, false, from, kAnyRows, &LinearRunner::run_bf16dot});
  }
  if (int8) {
    kernels_.insert(kernels_.begin(),
                    {"int8dot_avx512vnni", int8_codes, true, true, 1, kAnyRows, &LinearRunner::run_int8dot});
  }
#endif
}

void LinearRunner::pin_kernel(const std::string& pin) {
  std::vector<std::string> names;
  for (const Kernel& kernel : kernels_) {
    if (pin == "gemm=" + kernel.name) pinned_ = &kernel;
    names.push_back("gemm=" + kernel.name);
  }
  if (pinned_ == nullptr) {
    throw Error(ErrorCode::invalid_argument, "there is no kernel '" + pin + "' on this machine",
                "the kernels are " + join(names, ", "));
  }
  if (deterministic_ && !pinned_->exact) {
    throw Error(ErrorCode::invalid_argument, "kernel '" + pin + "' gives results that depend on the batch",
                "drop the pin or the deterministic mode");
  }
}

const LinearRunner::Kernel& LinearRunner::choose(const Packing& packing, Index rows) const {
  if (pinned_ != nullptr && pinned_->supports(packing)) return *pinned_;
  for (const Kernel& kernel : kernels_) {
    if (deterministic_ && !kernel.exact) continue;
    if (kernel.supports(packing) && rows >= kernel.min_rows && rows <= kernel.max_rows) return kernel;
  }
  return kernels_.back();
}

void LinearRunner::run(const LinearCall& call) {
  if (call.rows == 0) return;
  BITTERN_CHECK(call.w->tiled(), "linear over a table that was prepared for embed alone");
  const Kernel& kernel = choose(call.w->packing(), call.rows);
  const bool round = round_activations_ && call.w->format().int8_activations && !kernel.rounds;
  (this->*kernel.run)(round ? round_x(call) : call);
}

std::vector<KernelChoice> LinearRunner::choices() const {
  constexpr std::pair<Packing, const char*> kKinds[] = {{{TileKind::f32}, "f32"},
                                                        {{TileKind::bf16}, "bf16"},
                                                        {{TileKind::f16}, "f16"},
                                                        {{TileKind::w4}, "int4"},
                                                        {{TileKind::w4, true}, "int4 with offsets"},
                                                        {{TileKind::t4}, "e2m1 or iq4_nl"},
                                                        {{TileKind::w8}, "int8"},
                                                        {{TileKind::w8, false, true}, "int8 with 8-bit activations"},
                                                        {{TileKind::e4m3}, "e4m3"}};
  std::vector<KernelChoice> result;
  for (const auto& [packing, name] : kKinds) {
    const Kernel& one = choose(packing, 1);
    const Kernel& many = choose(packing, 512);
    result.push_back({std::string("linear ") + name + " decode", one.name});
    result.push_back({std::string("linear ") + name + " prefill", many.name});
  }
  return result;
}

/// The rows of x with their columns in the weight's order, and zeros from their end to `stride`.
void LinearRunner::copy_x(const LinearCall& call, Index stride, float* to) {
  const std::vector<std::int32_t>& order = call.w->input_order();
  const Index in = call.w->in();
  const auto rows = [&](Index begin, Index end, int) {
    for (Index r = begin; r < end; ++r) {
      const float* x = call.x + r * call.x_stride;
      float* row = to + r * stride;
      if (order.empty()) {
        std::memcpy(row, x, static_cast<std::size_t>(in) * sizeof(float));
      } else {
        for (Index j = 0; j < in; ++j) row[j] = x[order[static_cast<std::size_t>(j)]];
      }
      std::fill(row + in, row + stride, 0.0f);
    }
  };
  if (call.rows < 16) return rows(0, call.rows, 0);
  pool_.parallel_ranges(call.rows, 1, rows);
}

// Kernels read x in whole steps and in the order of the weight's columns; where that is not how it lies, it is copied.
const float* LinearRunner::padded_x(const LinearCall& call, Index& stride) {
  const Index in = call.w->in(), step = call.w->step_inputs();
  stride = call.x_stride;
  if (in % step == 0 && call.w->input_order().empty()) return call.x;
  stride = divide_up(in, step) * step;
  float* copy = x_.get<float>(static_cast<std::size_t>(call.rows * stride));
  copy_x(call, stride, copy);
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

LinearArgs LinearRunner::arguments(const LinearCall& call, bool sums) {
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
  args.header = w.header();
  args.center = w.center();
  args.table = w.table();
  args.row_end = call.rows;
  args.tile_end = w.tile_count();
  if (w.grouped() && sums) sum_groups(call, args);
  return args;
}

/// Rows of x to 8 bits each: codes in x_int8_ (rows, stride), zeros past `inputs`, and one scale per row in x_scales_.
void LinearRunner::round_rows(const float* x, Index x_stride, Index rows, Index inputs, Index stride) {
  std::int8_t* codes = x_int8_.get<std::int8_t>(static_cast<std::size_t>(rows * stride));
  float* scales = x_scales_.get<float>(static_cast<std::size_t>(rows));
  const auto round = [&](Index begin, Index end, int) {
    for (Index r = begin; r < end; ++r) {
      scales[r] = w8a8_.round_row(x + r * x_stride, inputs, codes + r * stride);
      std::fill(codes + r * stride + inputs, codes + (r + 1) * stride, std::int8_t{0});
    }
  };
  if (rows < 16) return round(0, rows, 0);
  pool_.parallel_ranges(rows, 1, round);
}

// For weights made for 8-bit activations whose packing has no integer kernel: the same rounding, then f32 arithmetic.
LinearCall LinearRunner::round_x(const LinearCall& call) {
  const Index in = call.w->in();
  round_rows(call.x, call.x_stride, call.rows, in, in);
  const std::int8_t* codes = x_int8_.get<std::int8_t>(0);
  const float* scales = x_scales_.get<float>(0);
  float* rounded = x_rounded_.get<float>(static_cast<std::size_t>(call.rows * in));
  for (Index r = 0; r < call.rows; ++r) {
    for (Index i = 0; i < in; ++i) rounded[r * in + i] = static_cast<float>(codes[r * in + i]) * scales[r];
  }
  LinearCall result = call;
  result.x = rounded;
  result.x_stride = in;
  return result;
}

void LinearRunner::run_w8a8(const LinearCall& call) {
  LinearArgs args = arguments(call, false);
  const Index stride = divide_up(args.inputs, 4) * 4;
  round_rows(args.x, args.x_stride, call.rows, args.inputs, stride);
  const std::int8_t* codes = x_int8_.get<std::int8_t>(0);
  std::int32_t* sums = sums_.get<std::int32_t>(static_cast<std::size_t>(call.rows * args.groups));
  for (Index r = 0; r < call.rows; ++r) {
    for (Index g = 0; g < args.groups; ++g) {
      const std::int8_t* row = codes + r * stride;
      sums[r * args.groups + g] =
          std::accumulate(row + g * args.group, row + std::min(args.inputs, (g + 1) * args.group), std::int32_t{0});
    }
  }
  args.x_int8 = codes;
  args.x_int8_stride = stride;
  args.x_scales = x_scales_.get<float>(0);
  args.x_sums = sums;
  pool_.parallel_for(static_cast<int>(divide_up(args.tile_end, w8a8_.tiles)), [&](int task, int) {
    LinearArgs part = args;
    part.tile_begin = task * w8a8_.tiles;
    part.tile_end = std::min(args.tile_end, part.tile_begin + w8a8_.tiles);
    w8a8_.run(&part);
  });
}

void LinearRunner::run_direct(const LinearCall& call) {
  const LinearArgs args = arguments(call);
  const LinearFn kernel = table_.linear.direct[static_cast<int>(call.w->kind())];
  // Small units let both ends of a short weight finish together; a unit still holds all streams of the kernel.
  const Index unit = call.w->grouped() ? std::max(1, table_.linear.direct_tiles / 2) : table_.linear.direct_tiles;
  pool_.parallel_for(static_cast<int>(divide_up(args.tile_end, unit)), [&](int task, int) {
    LinearArgs part = args;
    part.tile_begin = task * unit;
    part.tile_end = std::min(args.tile_end, part.tile_begin + unit);
    kernel(&part);
  });
}

void LinearRunner::run_panel(const LinearCall& call) {
  LinearArgs args = arguments(call);
  share_panels(args, table_.linear.panel[static_cast<int>(call.w->kind())], table_.linear.panel_tiles);
}

// Splits a panel kernel's outputs, and rows where they are many, among threads.
void LinearRunner::share_panels(LinearArgs& args, LinearFn kernel, Index unit) {
  float* scratch = panels_.get<float>(static_cast<std::size_t>(pool_.size() * kPanelScratch));
  const Index rows = args.row_end, columns = divide_up(args.tile_end, unit);
  const Index row_parts = divide_up(rows, kPanelMaxRows), rows_per_part = divide_up(rows, row_parts);
  pool_.parallel_for(static_cast<int>(columns * row_parts), [&](int task, int worker) {
    LinearArgs part = args;
    part.tile_begin = task % columns * unit;
    part.tile_end = std::min(args.tile_end, part.tile_begin + unit);
    part.row_begin = task / columns * rows_per_part;
    part.row_end = std::min(rows, part.row_begin + rows_per_part);
    part.scratch = scratch + worker * kPanelScratch;
    kernel(&part);
  });
}

#if defined(__x86_64__)
void LinearRunner::run_bf16dot(const LinearCall& call) {
  const Bf16DotTable& table = *linear_bf16dot_table();
  LinearArgs args = arguments(call);
  const Index stride = divide_up(args.inputs, 32) * 32;
  std::uint16_t* rounded = x_bf16_.get<std::uint16_t>(static_cast<std::size_t>(call.rows * stride));
  pool_.parallel_ranges(call.rows, 1, [&](Index begin, Index end, int) {
    for (Index r = begin; r < end; ++r) {
      table.round_row(args.x + r * args.x_stride, args.inputs, rounded + r * stride);
      std::fill(rounded + r * stride + args.inputs, rounded + (r + 1) * stride, std::uint16_t{0});
    }
  });
  args.x_bf16 = rounded;
  args.x_bf16_stride = stride;
  share_panels(args, call.w->kind() == TileKind::w4 ? table.w4 : table.dense, table.tiles);
}

/// Arguments with x rounded to 8 bits per group.
LinearArgs LinearRunner::int8_arguments(const LinearCall& call) {
  LinearArgs args = arguments(call, false);
  const Index stride = divide_up(args.inputs, 8) * 8, groups = args.groups;
  std::int8_t* codes = x_int8_.get<std::int8_t>(static_cast<std::size_t>(call.rows * stride));
  float* scales = x_scales_.get<float>(static_cast<std::size_t>(2 * call.rows * groups));
  std::int32_t* sums = reinterpret_cast<std::int32_t*>(scales + call.rows * groups);
  const bool nibbles = call.w->kind() == TileKind::w4;
  const auto round = [&](Index begin, Index end, int) {
    for (Index r = begin; r < end; ++r) {
      linear_int8dot_table()->round_row(args.x + r * args.x_stride, args.inputs, args.group, nibbles,
                                        codes + r * stride, scales + r * groups, sums + r * groups);
    }
  };
  if (call.rows * args.inputs < kFewInputs) {
    round(0, call.rows, 0);
  } else {
    pool_.parallel_ranges(call.rows, 1, round);
  }
  args.x_int8 = codes;
  args.x_int8_stride = stride;
  args.x_scales = scales;
  args.x_sums = sums;
  return args;
}

void LinearRunner::run_int8dot(const LinearCall& call) {
  const Int8DotTable& table = *linear_int8dot_table();
  const LinearArgs args = int8_arguments(call);
  const LinearFn kernel = call.w->kind() == TileKind::w4 ? table.w4 : table.w8;
  pool_.parallel_for(static_cast<int>(divide_up(args.tile_end, table.tiles)), [&](int task, int) {
    LinearArgs part = args;
    part.tile_begin = task * table.tiles;
    part.tile_end = std::min(args.tile_end, part.tile_begin + table.tiles);
    kernel(&part);
  });
}
#endif

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
