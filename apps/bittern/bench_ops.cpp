// `bittern bench ops`: each heavy kernel by itself over the shapes of published models: linears by format and rows,
// attention by KV format and context. A figure is stated as a fraction of the time that the machine's limits allow: the
// larger of reading the bytes and doing the arithmetic. Weights and caches are cold: every call reads another copy.
#include <bittern/error.h>
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <numeric>

#include "base/random.h"
#include "bench.h"
#include "bench_report.h"
#include "models/random_weights.h"
#include "published_configs.h"
#include "table.h"

namespace bittern::cli {
namespace {

constexpr double kColdBytes = 600e6;    // beyond what caches keep
constexpr std::int64_t kHeadRows = 64;  // a step asks for few rows of logits
constexpr int kAttentionSequences = 4;  // of decode
constexpr int kAttentionPrefill = 512;  // query rows of one chunk

struct OpsOptions {
  BackendOptions device;
  std::vector<std::string> configs, formats = {"w4a16", "w8a16", "w8a8", "bf16"};
  std::vector<std::string> kv_formats = {"bf16", "int8", "int4"}, parts = {"linear", "attention"};
  std::vector<int> rows = {1, 4, 16, 32, 128, 512}, contexts = {512, 2048, 8192};
  int group_size = 128, repeats = 5;
  bool json = false;
};

struct Shape {
  std::string name;
  std::int64_t out, in;
};

std::vector<Shape> shapes_of(const ModelConfig& c) {
  const std::int64_t hidden = c.hidden, q = std::int64_t{c.heads} * c.head_dim,
                     kv = std::int64_t{c.kv_heads} * c.head_dim;
  return {{"qkv", q + 2 * kv, hidden},
          {"o", hidden, q},
          {"gate_up", 2 * std::int64_t{c.ffn}, hidden},
          {"down", hidden, c.ffn},
          {"head", c.vocab, hidden}};
}

/// One figure: what was run, what it read and multiplied, how long it took.
struct OpRow {
  std::string config, operation, format, size;
  double bytes = 0, flops = 0, limit_flops = 0;
  Spread seconds;

  double least_seconds(const MachineLimits& limits) const {
    return std::max(bytes / limits.read(), flops / limit_flops);
  }
};

class OpsRun {
 public:
  OpsRun(const OpsOptions& options, const MachineLimits& limits)
      : options_(options), limits_(limits), backend_(make_backend("cpu", options.device)) {}

  std::vector<OpRow> run() {
    for (const std::string& name : options_.configs) {
      const ModelConfig config = config_by_name_or_file(name);
      if (wants("linear")) linears(name, config);
      if (wants("attention")) attentions(name, config);
    }
    return std::move(rows_);
  }

 private:
  bool wants(const char* part) const { return std::ranges::find(options_.parts, part) != options_.parts.end(); }

  template <class F>
  Spread timed(int calls, F&& one) {
    std::vector<double> seconds;
    one(0);
    for (int i = 0; i < options_.repeats; ++i) {
      const auto begin = std::chrono::steady_clock::now();
      for (int call = 0; call < calls; ++call) one(call);
      seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() / calls);
    }
    return spread_of(seconds);
  }

  // --- linears ---

  void linears(const std::string& config, const ModelConfig& model) {
    for (const Shape& shape : shapes_of(model)) {
      for (const std::string& format : options_.formats)
        linear(config, shape, parse_weight_format(format, options_.group_size));
    }
  }

  void linear(const std::string& config, const Shape& shape, Format format) {
    std::vector<std::unique_ptr<PackedWeight>> copies;
    const Weight weight = random_weight(shape.name, format, shape.out, shape.in);
    for (double bytes = 0; bytes < kColdBytes; bytes += static_cast<double>(copies.back()->bytes())) {
      copies.push_back(backend_->prepare(weight));
    }
    for (const int rows : options_.rows) {
      if (shape.name != "head" || rows <= kHeadRows) linear_rows(config, shape, weight.format, rows, copies);
    }
  }

  void linear_rows(const std::string& config, const Shape& shape, Format format, std::int64_t rows,
                   const std::vector<std::unique_ptr<PackedWeight>>& copies) {
    std::vector<float> x(static_cast<std::size_t>(rows * shape.in), 0.5f),
        out(static_cast<std::size_t>(rows * shape.out));
    const Tensor to = Tensor::of(out.data(), DType::f32, rows, shape.out);
    const Tensor from = Tensor::of(x.data(), DType::f32, rows, shape.in);
    OpRow row{config, shape.name, format.name(), fmt::format("{} rows", rows), 0, 0, 0, {}};
    row.bytes = static_cast<double>(copies.front()->bytes());
    row.flops = 2.0 * static_cast<double>(rows * shape.out * shape.in);
    row.limit_flops = arithmetic_of(format);
    const int calls = std::max(1, std::min(static_cast<int>(copies.size()), static_cast<int>(2e10 / row.flops) + 1));
    row.seconds =
        timed(calls, [&](int call) { backend_->linear(to, from, *copies[static_cast<std::size_t>(call)], nullptr); });
    add(std::move(row));
  }

  // What the kernels of this format may use: W8A8 multiplies bytes whatever the compute mode, unless it is told not to.
  double arithmetic_of(const Format& format) const {
    const std::string& compute = options_.device.compute;
    const bool bytes = format.int8_activations && compute != "f32" && compute != "bf16";
    if (bytes && limits_.arithmetic.int8 > 0) return limits_.arithmetic.int8;
    const bool integers = format.kind == FormatKind::grouped && format.codes == Codes::integer;
    if (compute == "int8" && !integers) return limits_.arithmetic.f32;
    return compute_limit(options_.device, limits_).second;
  }

  // --- attention ---

  void attentions(const std::string& config, const ModelConfig& model) {
    for (const std::string& kv : options_.kv_formats) {
      for (const int context : options_.contexts) {
        attention(config, model, kv, context, kAttentionSequences, 1);
        attention(config, model, kv, context, 1, std::min(context, kAttentionPrefill));
      }
    }
  }

  /// The last `queries` tokens of each of `sequences` sequences of `context` tokens.
  struct Ragged {
    std::vector<std::int32_t> ids, positions, starts, contexts, table;
    BatchView view;

    Ragged(int sequences, int begin, int tokens, int blocks) {
      starts.push_back(0);
      for (int s = 0; s < sequences; ++s) {
        for (int p = begin; p < begin + tokens; ++p) positions.push_back(p);
        starts.push_back(starts.back() + tokens);
        contexts.push_back(begin + tokens);
      }
      ids.assign(positions.size(), 0);
      table.resize(static_cast<std::size_t>(blocks) * static_cast<std::size_t>(sequences));
      std::iota(table.begin(), table.end(), 0);
      view = {static_cast<int>(ids.size()), sequences, ids, positions, starts, contexts, contexts, table, blocks};
    }
  };

  void attention(const std::string& config, const ModelConfig& model, const std::string& kv, int context, int sequences,
                 int queries) {
    KvSpec spec{parse_kv_format(kv, *backend_), 1, model.kv_heads, model.head_dim, EngineOptions().block_tokens};
    const int blocks = (context + spec.block_tokens - 1) / spec.block_tokens;
    const double bytes = static_cast<double>(backend_->kv_block_bytes(spec)) * blocks * sequences;
    spec.layers = std::clamp(static_cast<int>(kColdBytes / bytes), 1, model.layers);
    const auto pool = backend_->make_kv_pool(spec, std::int64_t{blocks} * sequences);
    fill(*pool, model, sequences, context, blocks);
    const Ragged batch(sequences, context - queries, queries, blocks);
    std::vector<float> q = random_values(model.heads * model.head_dim * batch.view.tokens), out(q);
    const float scale = static_cast<float>(model.attention_scale);
    OpRow row{
        config,
        queries == 1 ? fmt::format("attention, {} decoding", sequences) : fmt::format("attention, {} rows", queries),
        "kv " + kv,
        fmt::format("context {}", context),
        bytes,
        0,
        limits_.arithmetic.f32,
        {}};
    const double visible = static_cast<double>(sequences) * queries * (context - (queries - 1) / 2.0);
    row.flops = 4.0 * model.heads * model.head_dim * visible;
    row.seconds = timed(spec.layers, [&](int layer) {
      backend_->attention(
          {heads(q, model.heads, model.head_dim), heads(out, model.heads, model.head_dim), layer, scale, 0, 0},
          batch.view, *pool);
    });
    add(std::move(row));
  }

  static Tensor heads(std::vector<float>& data, int n, int dim) {
    return Tensor::of(data.data(), DType::f32, static_cast<std::int64_t>(data.size()) / (n * dim), n, dim);
  }

  static std::vector<float> random_values(std::int64_t count) {
    std::vector<float> values(static_cast<std::size_t>(count));
    Random random(3);
    for (float& value : values) value = random.next_float() - 0.5f;
    return values;
  }

  void fill(KvPool& pool, const ModelConfig& model, int sequences, int context, int blocks) {
    constexpr int kChunk = 256;
    for (int begin = 0; begin < context; begin += kChunk) {
      const Ragged batch(sequences, begin, std::min(kChunk, context - begin), blocks);
      std::vector<float> q = random_values(model.heads * model.head_dim * batch.view.tokens);
      std::vector<float> k = random_values(model.kv_heads * model.head_dim * batch.view.tokens);
      for (int layer = 0; layer < pool.spec().layers; ++layer) {
        const Tensor rows = heads(k, model.kv_heads, model.head_dim);
        backend_->rope_store({heads(q, model.heads, model.head_dim), rows, rows, {}, {}, false, layer}, batch.view,
                             pool);
      }
    }
  }

  void add(OpRow row) {
    if (!options_.json) print(row);
    rows_.push_back(std::move(row));
  }

  void print(const OpRow& row) const {
    const double t = row.seconds.median;
    fmt::print("{:13} {:22} {:14} {:14} {:>11.1f} us ±{:<3.0f}% {:7.1f} GB/s {:8.1f} GFLOP/s {:4.0f} % of limit\n",
               row.config, row.operation, row.format, row.size, t * 1e6,
               (row.seconds.high - row.seconds.low) / 2 / t * 100, row.bytes / t / 1e9, row.flops / t / 1e9,
               100 * row.least_seconds(limits_) / t);
  }

  const OpsOptions& options_;
  const MachineLimits& limits_;
  std::unique_ptr<Backend> backend_;
  std::vector<OpRow> rows_;
};

OrderedJson to_json(const OpRow& row, const MachineLimits& limits) {
  const double t = row.seconds.median;
  return {{"config", row.config},
          {"operation", row.operation},
          {"format", row.format},
          {"size", row.size},
          {"seconds", to_json(row.seconds)},
          {"bytes_per_second", row.bytes / t},
          {"flops", row.flops / t},
          {"of_limit", row.least_seconds(limits) / t}};
}

void check(const OpsOptions& o) {
  for (const std::string& config : o.configs) static_cast<void>(config_by_name_or_file(config));
  for (const std::string& format : o.formats) static_cast<void>(parse_weight_format(format, o.group_size));
  for (const std::string& part : o.parts) {
    if (part == "linear" || part == "attention") continue;
    throw Error(ErrorCode::invalid_argument, "--parts: there is no part '" + part + "'",
                "the parts are linear, attention");
  }
  const auto positive = [](int n) { return n > 0; };
  if (std::ranges::all_of(o.rows, positive) && std::ranges::all_of(o.contexts, positive)) return;
  throw Error(ErrorCode::invalid_argument, "--rows and --contexts are lists of numbers above 0");
}

int run_ops(const OpsOptions& options) {
  check(options);
  if (!options.json) print_machine(options.device);
  const MachineLimits limits = measure_limits(options.device);
  if (!options.json) print_limits(limits);
  if (!options.json) fmt::print("\n");
  const std::vector<OpRow> rows = OpsRun(options, limits).run();
  if (!options.json) return 0;
  OrderedJson results = OrderedJson::array();
  for (const OpRow& row : rows) results.push_back(to_json(row, limits));
  const OrderedJson asked = {{"configs", options.configs}, {"repeats", options.repeats}};
  print_report_json("ops", options.device, &limits, asked, results);
  return 0;
}

}  // namespace

std::function<int()> declare_bench_ops(CLI::App& command) {
  auto o = std::make_shared<OpsOptions>();
  for (const PublishedConfig& config : published_configs()) o->configs.emplace_back(config.name);
  o->device.compute = "auto";
  add_option(command, "--configs", o->configs, "shapes of these: names or paths of config.json")->delimiter(',');
  add_option(command, "--parts", o->parts, "linear, attention")->delimiter(',');
  add_option(command, "--formats", o->formats, "of weights: f32, f16, bf16, w4a16, w8a16, w8a8")->delimiter(',');
  add_option(command, "--group-size", o->group_size, "inputs that share a scale")->check(CLI::Range(1, 1 << 20));
  add_option(command, "--rows", o->rows, "rows multiplied at once")->delimiter(',');
  add_option(command, "--kv-formats", o->kv_formats, "of the KV cache: f32, f16, bf16, int8, int4")->delimiter(',');
  add_option(command, "--contexts", o->contexts, "tokens that attention looks back on")->delimiter(',');
  add_option(command, "--repeats", o->repeats, "timings, of which the median counts")->check(CLI::Range(1, 1000));
  add_option(command, "--json", o->json, "print JSON");
  add_cpu_options(command, o->device);
  add_option(command, "--compute", o->device.compute, "auto, f32, bf16 or int8, as for generate")
      ->check(CLI::IsMember({"auto", "f32", "bf16", "int8"}))
      ->group("Device");
  add_option(command, "--kernel", o->device.kernel_pin, "pin a kernel, gemm=NAME")->group("Device");
  return [o] { return run_ops(*o); };
}

}  // namespace bittern::cli
