// bench_ops: how close the CPU backend's kernels come to what this machine can do. It measures the limits first
// (reading memory in 1 to 8 streams per thread, multiply-adds in registers), then linear at the shapes of a
// 0.5B-parameter model. Each figure is the best of several repeats, spread over time, because other work on the machine
// only ever slows one down. Usage: bench_ops [limits|decode|prefill|attention]... (default: all). BITTERN_ISA and
// BITTERN_THREADS apply.
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/isa.h"
#include "base/buffer.h"
#include "base/half.h"
#include "base/sysinfo.h"
#include "base/thread_pool.h"

namespace bittern {
namespace {

using Clock = std::chrono::steady_clock;

double seconds(const std::function<void()>& work) {
  const auto start = Clock::now();
  work();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Best of `repeats` after one warm-up run.
double best_seconds(int repeats, const std::function<void()>& work) {
  work();
  double best = 1e30;
  for (int i = 0; i < repeats; ++i) best = std::min(best, seconds(work));
  return best;
}

struct Limits {
  double read = 0;   // bytes per second, all threads, best number of streams
  double flops = 0;  // f32, all threads
};

Limits measure_limits(ThreadPool& pool, const cpu::KernelTable& table) {
  Limits limits;
  constexpr std::size_t kBytes = std::size_t{1} << 30;  // beyond any cache
  AlignedBuffer memory(kBytes, AlignedBuffer::Pages::huge);
  std::memset(memory.data(), 0, kBytes);
  volatile float sink = 0;
  const cpu::Index floats = static_cast<cpu::Index>(kBytes / sizeof(float)) / pool.size();
  for (int streams : {1, 2, 4, 8}) {
    const double t = best_seconds(7, [&] {
      pool.parallel_for(pool.size(), [&](int task, int) {
        sink = table.limit.read_memory(reinterpret_cast<float*>(memory.data()) + task * floats, floats, streams);
      });
    });
    const double rate = static_cast<double>(kBytes) / t;
    fmt::print("  read, {} stream{} per thread: {:6.1f} GB/s\n", streams, streams == 1 ? " " : "s", rate / 1e9);
    limits.read = std::max(limits.read, rate);
  }
  const cpu::Index rounds = 2'000'000;
  const double t = best_seconds(
      9, [&] { pool.parallel_for(pool.size(), [&](int, int) { sink = table.limit.multiply_add(rounds); }); });
  limits.flops = static_cast<double>(rounds * table.limit.flops_per_round * pool.size()) / t;
  fmt::print("  f32 multiply-add:            {:6.1f} GFLOP/s\n\n", limits.flops / 1e9);
  return limits;
}

Weight random_weight(Format format, std::int64_t out, std::int64_t in) {
  Weight w = Weight::allocate("bench", format, out, in);
  std::mt19937 random(1);
  if (format.kind == FormatKind::dense) {
    for (std::int64_t i = 0; i < out * in; ++i) {
      const float x = static_cast<float>(random() % 1000) * 1e-4f - 0.05f;
      if (format.dtype == DType::bf16) w.data.as<std::uint16_t>()[i] = to_bf16(x).bits;
      if (format.dtype == DType::f16) w.data.as<std::uint16_t>()[i] = to_f16(x).bits;
      if (format.dtype == DType::f32) w.data.as<float>()[i] = x;
    }
    return w;
  }
  for (std::int64_t i = 0; i < w.data.size(); ++i) w.data.as<std::uint8_t>()[i] = static_cast<std::uint8_t>(random());
  for (std::int64_t i = 0; i < w.scales.size(); ++i) {
    w.scales.as<float>()[i] = to_f32(to_f16(0.01f));
    w.zeros.as<std::uint8_t>()[i] = static_cast<std::uint8_t>(1 << (format.bits - 1));
  }
  return w;
}

struct Shape {
  const char* name;
  std::int64_t out, in;
};
// Qwen2.5-0.5B: hidden 896, 14 query and 2 KV heads of 64, ffn 4864, vocabulary 151936.
constexpr Shape kLayer[] = {{"qkv", 1152, 896}, {"o", 896, 896}, {"gate_up", 9728, 896}, {"down", 896, 4864}};
constexpr Shape kHead = {"head", 151936, 896};
constexpr int kLayers = 24;

struct Linear {
  std::unique_ptr<PackedWeight> w;
  std::vector<float> x, out;
};

Linear make_linear(Backend& backend, const Shape& shape, Format format, std::int64_t rows) {
  Linear linear;
  linear.w = backend.prepare(random_weight(format, shape.out, shape.in));
  linear.x.assign(static_cast<std::size_t>(rows * shape.in), 0.5f);
  linear.out.resize(static_cast<std::size_t>(rows * shape.out));
  return linear;
}

void run(Backend& backend, Linear& linear, std::int64_t rows) {
  backend.linear(Tensor::of(linear.out.data(), DType::f32, rows, linear.w->out()),
                 Tensor::of(linear.x.data(), DType::f32, rows, linear.w->in()), *linear.w, nullptr);
}

void report_decode(const char* name, const char* format, std::int64_t rows, double bytes, double t,
                   const Limits& limits) {
  fmt::print("  {:8} {:13} rows {:2}: {:8.1f} us  {:6.1f} GB/s  {:3.0f} % of read\n", name, format, rows, t * 1e6,
             bytes / t / 1e9, 100 * bytes / t / limits.read);
}

/// One shape with enough copies to pass through more memory than the caches hold.
void decode_shape(Backend& backend, const Shape& shape, Format format, std::int64_t rows, const Limits& limits) {
  std::vector<Linear> copies;
  double bytes = 0;
  while (bytes < 600e6) {
    copies.push_back(make_linear(backend, shape, format, rows));
    bytes += static_cast<double>(copies.back().w->bytes());
  }
  const double t = best_seconds(9, [&] {
    for (Linear& linear : copies) run(backend, linear, rows);
  });
  const double n = static_cast<double>(copies.size());
  report_decode(shape.name, format.name().c_str(), rows, bytes / n, t / n, limits);
}

/// Every linear of the model in order, as one decoded token reads them.
void decode_model(Backend& backend, Format format, const Limits& limits) {
  std::vector<Linear> all;
  for (int layer = 0; layer < kLayers; ++layer) {
    for (const Shape& shape : kLayer) all.push_back(make_linear(backend, shape, format, 1));
  }
  all.push_back(make_linear(backend, kHead, Format::dense(DType::bf16), 1));
  double bytes = 0;
  for (const Linear& linear : all) bytes += static_cast<double>(linear.w->bytes());
  const double t = best_seconds(25, [&] {
    for (Linear& linear : all) run(backend, linear, 1);
  });
  fmt::print(
      "  whole model, {} + bf16 head: {:.1f} MB, {:.2f} ms per token ({:.0f}/s), {:.1f} GB/s = {:.0f} % of read\n\n",
      format.name(), bytes / 1e6, t * 1e3, 1 / t, bytes / t / 1e9, 100 * bytes / t / limits.read);
}

void prefill_shape(Backend& backend, const Shape& shape, Format format, std::int64_t rows, const Limits& limits) {
  Linear linear = make_linear(backend, shape, format, rows);
  const double t = best_seconds(9, [&] { run(backend, linear, rows); });
  const double flops = 2.0 * static_cast<double>(shape.out * shape.in * rows);
  fmt::print("  {:8} {:13} rows {:3}: {:8.1f} us  {:6.1f} GFLOP/s  {:3.0f} % of f32\n", shape.name, format.name(), rows,
             t * 1e6, flops / t / 1e9, 100 * flops / t / limits.flops);
}

void decode_attention(Backend& backend, KvFormat format, int context, const Limits& limits) {
  constexpr int kHeads = 14, kKvHeads = 2, kDim = 64, kSequences = 8;
  KvSpec spec{format, kLayers, kKvHeads, kDim, 64};
  const int blocks = (context + 63) / 64;
  const auto pool = backend.make_kv_pool(spec, std::int64_t{blocks} * kSequences);
  std::vector<std::int32_t> positions(kSequences, context - 1), starts, contexts(kSequences, context), table;
  for (int s = 0; s <= kSequences; ++s) starts.push_back(s);
  for (int b = 0; b < blocks * kSequences; ++b) table.push_back(b);
  BatchView batch{kSequences, kSequences, positions, positions, starts, contexts, contexts, table, blocks};
  std::vector<float> q(kSequences * kHeads * kDim, 0.1f), out(q), k(kSequences * kKvHeads * kDim, 0.1f);
  const auto heads = [](std::vector<float>& data, int n) {
    return Tensor::of(data.data(), DType::f32, kSequences, n, kDim);
  };
  for (int layer = 0; layer < kLayers; ++layer) {  // touches the pages
    for (int p = 0; p < context; ++p) {
      std::fill(positions.begin(), positions.end(), p);
      backend.rope_store({heads(q, kHeads), heads(k, kKvHeads), heads(k, kKvHeads), {}, {}, false, layer}, batch,
                         *pool);
    }
  }
  const double t = best_seconds(9, [&] {
    for (int layer = 0; layer < kLayers; ++layer) {
      backend.attention({heads(q, kHeads), heads(out, kHeads), layer, 0.125f, 0, 0}, batch, *pool);
    }
  });
  const double bytes = static_cast<double>(backend.kv_block_bytes(spec)) * blocks * kSequences;
  fmt::print("  decode {:5} context {:5} x {}: {:6.0f} us per layer  {:6.1f} GB/s  {:3.0f} % of read\n",
             kv_format_name(format), context, kSequences, t / kLayers * 1e6, bytes / t / 1e9,
             100 * bytes / t / limits.read);
}

bool wants(int argc, char** argv, const char* part) {
  if (argc == 1) return true;
  return std::any_of(argv + 1, argv + argc, [&](const char* a) { return std::strcmp(a, part) == 0; });
}

int bench(int argc, char** argv) {
  const auto backend = make_backend("cpu", {});
  fmt::print("{}\n{}\nlimits:\n", cpu_model_name(), backend->description());
  Limits limits;
  {
    ThreadPool pool;
    limits = measure_limits(pool, cpu::kernel_table(cpu::choose_isa("")));
  }
  const Format w4 = Format::int4(128), w8 = Format::grouped(8, 32), bf16 = Format::dense(DType::bf16);
  Format w8a8 = Format::grouped(8, 1 << 14);  // one group per output, whatever its inputs
  w8a8.int8_activations = true;
  if (wants(argc, argv, "decode")) {
    decode_model(*backend, w4, limits);
    decode_model(*backend, Format::int4(32), limits);
    decode_model(*backend, w8, limits);
    decode_model(*backend, w8a8, limits);
    if (cpu::choose_isa("") >= cpu::IsaLevel::avx512vnni) {
      BackendOptions int8;
      int8.compute = "int8";
      fmt::print("  with compute int8:\n");
      decode_model(*make_backend("cpu", int8), w4, limits);
    }
    for (Format format : {w4, w8, w8a8, bf16}) {
      for (const Shape& shape : kLayer) decode_shape(*backend, shape, format, 1, limits);
      for (std::int64_t rows : {2, 4, 8}) decode_shape(*backend, kLayer[2], format, rows, limits);
    }
    decode_shape(*backend, kHead, bf16, 1, limits);
  }
  if (wants(argc, argv, "prefill")) {
    for (Format format : {w4, w8, w8a8, bf16, Format::dense(DType::f32)}) {
      for (std::int64_t rows : {9, 16, 32, 128, 512}) prefill_shape(*backend, kLayer[2], format, rows, limits);
      prefill_shape(*backend, kLayer[3], format, 512, limits);
    }
  }
  if (wants(argc, argv, "attention")) {
    for (KvFormat format : {KvFormat::f32, KvFormat::bf16, KvFormat::f16, KvFormat::int8, KvFormat::int4}) {
      decode_attention(*backend, format, 2048, limits);
    }
  }
  return 0;
}

}  // namespace
}  // namespace bittern

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // a long run shows its lines as they come, in a file too
  try {
    return bittern::bench(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "bench_ops: {}\n", error.what());
    return 1;
  }
}
