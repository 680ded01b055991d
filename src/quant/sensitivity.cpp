// Streams: hidden states of all tokens behind the layers done so far. The first is the original's, then one for each
// precision of the KV cache, then one for each linear that was rounded. They lie in one file for each layer, so that a
// stopped measurement goes on after its last layer.
#include "quant/sensitivity.h"

#include <bittern/error.h>
#include <bittern/version.h>
#include <malloc.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <utility>

#include "base/atomic_file.h"
#include "base/check.h"
#include "models/layerwise.h"
#include "quant/algorithm.h"
#include "quant/scale_groups.h"

namespace bittern::quant {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kLeastTokens = 64, kMostTokens = 2048;
constexpr std::int64_t kWork = 100'000'000'000'000;  // multiplications of the whole measurement: minutes on two cores
constexpr std::int64_t kRows = 64;                   // of logits in one call

// --- Streams on disk --------------------------------------------------------------------------------------------

/// Streams of equal length, one after another.
class StreamFile {
 public:
  StreamFile(fs::path path, std::int64_t values, bool create)
      : path_(std::move(path)),
        values_(values),
        file_(path_, std::ios::binary | (create ? std::ios::out | std::ios::trunc : std::ios::in)) {
    check("open");
  }

  void append(const std::vector<float>& stream) {
    BITTERN_CHECK(std::ssize(stream) == values_);
    file_.write(reinterpret_cast<const char*>(stream.data()), bytes(values_));
    check("write");
  }
  /// Values [first, first + to.size()) of a stream.
  void read(std::size_t stream, std::int64_t first, std::span<float> to) {
    file_.seekg(bytes(static_cast<std::int64_t>(stream) * values_ + first));
    file_.read(reinterpret_cast<char*>(to.data()), bytes(std::ssize(to)));
    check("read");
  }
  std::vector<float> read(std::size_t stream) {
    std::vector<float> values(static_cast<std::size_t>(values_));
    read(stream, 0, values);
    return values;
  }
  void finish() {
    file_.flush();
    check("write");
  }

 private:
  static std::streamsize bytes(std::int64_t values) {
    return static_cast<std::streamsize>(values * static_cast<std::int64_t>(sizeof(float)));
  }
  void check(const char* what) const {
    if (!file_) throw Error(ErrorCode::io, "cannot " + std::string(what) + " " + path_.string());
  }

  fs::path path_;
  std::int64_t values_;
  std::fstream file_;
};

// --- What was measured, as JSON ---------------------------------------------------------------------------------

Json to_json(const LinearSensitivity& linear) {
  return {{"name", linear.name}, {"layer", linear.layer},   {"shared_input", linear.shared_input},
          {"kl", linear.kl},     {"errors", linear.errors}, {"probe_error", linear.probe_error}};
}

LinearSensitivity linear_from_json(const Json& json) {
  return {json.at("name"), json.at("layer"),  json.at("shared_input"),
          json.at("kl"),   json.at("errors"), json.at("probe_error")};
}

Json to_json(const Sensitivity& sensitivity) {
  Json linears = Json::array();
  for (const LinearSensitivity& linear : sensitivity.linears) linears.push_back(to_json(linear));
  return {{"linears", std::move(linears)}, {"kv", sensitivity.kv}, {"tokens", sensitivity.tokens}};
}

Sensitivity sensitivity_from_json(const Json& json) {
  Sensitivity result;
  for (const Json& linear : json.at("linears")) result.linears.push_back(linear_from_json(linear));
  result.kv = json.at("kv");
  result.tokens = json.at("tokens");
  return result;
}

// --- State ------------------------------------------------------------------------------------------------------

/// How far the measurement is, and what it found so far.
class State {
 public:
  State(fs::path directory, Json key) : directory_(std::move(directory)), key_(std::move(key)) {
    std::error_code failure;
    fs::create_directories(directory_, failure);
    if (failure) throw Error(ErrorCode::io, "cannot create " + directory_.string() + ": " + failure.message());
    if (!fs::exists(file())) return;
    const Json found = read_json_file(file());
    if (found.at("key") != key_) {
      throw Error(
          ErrorCode::invalid_argument,
          directory_.string() + " holds a measurement of sensitivity for another quantization, which was stopped",
          "run that one again to finish it, or delete the directory");
    }
    layers = found.at("layers");
    complete = found.at("complete");
    found_so_far = sensitivity_from_json(found.at("found"));
  }

  fs::path streams(int layer) const { return directory_ / ("streams-" + std::to_string(layer) + ".f32"); }
  void save() {
    write_file_atomically(
        file(),
        Json{{"key", key_}, {"layers", layers}, {"complete", complete}, {"found", to_json(found_so_far)}}.dump() +
            "\n");
    std::error_code ignored;
    if (layers > 0) fs::remove(streams(layers - 1), ignored);
    if (complete) fs::remove(streams(layers), ignored);
  }

  int layers = -1;  // whose streams are behind them; -1: not even the embeddings are there
  bool complete = false;
  Sensitivity found_so_far;  // linears in the order of their streams

 private:
  fs::path file() const { return directory_ / "sensitivity.json"; }

  fs::path directory_;
  Json key_;
};

// --- The measurement --------------------------------------------------------------------------------------------

class LinearNames final : public nn::Visitor {
 public:
  void linear(const std::string& name, nn::Linear& leaf) override { found[&leaf] = {name, &leaf}; }
  void norm(const std::string&, nn::RmsNorm&) override {}
  void embedding(const std::string&, nn::Embedding&) override {}
  std::map<const nn::Linear*, std::pair<std::string, nn::Linear*>> found;
};

std::unique_ptr<Backend> make_cpu(int threads) {
  BackendOptions options;
  options.threads = threads;
  return make_backend("cpu", options);
}

double squared_difference(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    sum += difference * difference;
  }
  return sum;
}

void add(std::vector<float>& to, std::span<const float> what) {
  for (std::size_t i = 0; i < to.size(); ++i) to[i] += what[i];
}

/// Whole sequences, the last one cut: attention is causal, so its first tokens do not notice. Unless angles depend on
/// the length of the sequence; then it stays whole.
std::vector<std::span<const std::int32_t>> first_tokens(const ModelConfig& config, const Calibration& calibration,
                                                        std::int64_t wanted) {
  std::vector<std::span<const std::int32_t>> sequences;
  for (const auto& sequence : calibration.sequences) {
    if (wanted <= 0) break;
    const bool whole = config.rope.depends_on_length() || std::ssize(sequence) <= wanted;
    sequences.push_back(std::span(sequence).first(whole ? sequence.size() : static_cast<std::size_t>(wanted)));
    wanted -= std::ssize(sequences.back());
  }
  return sequences;
}

class Measurement {
 public:
  Measurement(const std::shared_ptr<const ModelFiles>& files, std::span<const LinearTask> linears,
              const Calibration& calibration, const SensitivityOptions& options)
      : files_(files),
        linears_(linears),
        options_(options),
        state_(options.state, options.key),
        backend_(make_cpu(options.threads)),
        model_(files, *backend_),
        pool_(options.threads > 0 ? options.threads : ThreadPool::default_size()) {
    const ModelConfig& config = model_.config();
    for (const auto sequence :
         first_tokens(config, calibration, sensitivity_tokens(config, linears, calibration, options.tokens))) {
      lengths_.push_back(static_cast<std::int32_t>(sequence.size()));
      ids_.insert(ids_.end(), sequence.begin(), sequence.end());
    }
    state_.found_so_far.tokens = std::ssize(ids_);
    values_ = std::ssize(ids_) * config.hidden;
    pass_ = make_pass(KvFormat::f32);
  }

  Sensitivity run() {
    if (!state_.complete) {
      if (state_.layers < 0) embed();
      while (state_.layers < model_.config().layers) {
        run_layer(state_.layers);
        if (options_.progress) options_.progress(state_.layers, model_.config().layers);
      }
      measure_divergences();
      state_.complete = true;
      state_.save();
    }
    return in_order_of_the_model();
  }

 private:
  std::unique_ptr<LayerwisePass> make_pass(KvFormat format) {
    const int longest = std::max<int>(static_cast<int>(ids_.size()), kRows);
    auto pass = std::make_unique<LayerwisePass>(model_, longest, static_cast<int>(lengths_.size()), format);
    pass->set_sequences(lengths_);
    return pass;
  }

  void embed() {
    model_.load_outside();
    std::vector<float> hidden(static_cast<std::size_t>(values_));
    pass_->embed(ids_, hidden.data());
    model_.drop_outside();
    StreamFile out(state_.streams(0), values_, true);
    for (std::size_t i = 0; i < 1 + options_.kv_caches.size(); ++i) out.append(hidden);
    out.finish();
    state_.layers = 0;
    state_.save();
  }

  void run_layer(int layer) {
    StreamFile in(state_.streams(layer), values_, false), out(state_.streams(layer + 1), values_, true);
    model_.load_layer(layer);
    const std::vector<Branch> branches = run_original(layer, in.read(0));
    std::vector<float> hidden = branches.back().input;
    add(hidden, branches.back().output);
    out.append(hidden);
    std::size_t stream = 1;
    for (const std::string& kv_cache : options_.kv_caches) {
      hidden = in.read(stream++);
      make_pass(parse_kv_format(kv_cache, *backend_))->forward_layer(layer, hidden.data());
      out.append(hidden);
    }
    for (std::size_t i = 0; i < state_.found_so_far.linears.size(); ++i) {
      hidden = in.read(stream++);
      pass_->forward_layer(layer, hidden.data());
      out.append(hidden);
    }
    for (std::size_t b = 0; b < branches.size(); ++b) round_linears(layer, branches, b, out);
    model_.drop_layer(layer);
    out.finish();
    state_.layers = layer + 1;
    state_.save();
#ifdef __GLIBC__
    malloc_trim(0);  // what a layer left must not add to the next one's memory
#endif
  }

  struct Branch {
    std::vector<float> input, output;  // hidden states before it, and what it adds to them
    std::vector<std::vector<const nn::Linear*>> groups;
  };

  std::vector<Branch> run_original(int layer, std::vector<float> hidden) {
    std::vector<Branch> branches(static_cast<std::size_t>(model_.model().branches()));
    for (std::size_t b = 0; b < branches.size(); ++b) {
      GroupProbe probe(0, pool_);
      branches[b].input = hidden;
      branches[b].output = run_branch(layer, b, hidden, &probe);
      for (ScaleGroup& group : probe.groups()) branches[b].groups.push_back(std::move(group.linears));
      add(hidden, branches[b].output);
    }
    return branches;
  }

  std::vector<float> run_branch(int layer, std::size_t branch, const std::vector<float>& hidden,
                                nn::Probe* probe = nullptr) {
    std::vector<float> out(hidden.size());
    pass_->forward_branch(layer, static_cast<int>(branch), hidden.data(), out.data(), probe);
    return out;
  }

  void round_linears(int layer, const std::vector<Branch>& branches, std::size_t b, StreamFile& out) {
    LinearNames names;
    model_.model().visit_layer(names, layer);
    int shared_input = static_cast<int>(b) << 16;
    for (const auto& group : branches[b].groups) {
      for (const nn::Linear* linear : group) {
        const auto& [name, leaf] = names.found.at(linear);
        const auto task = std::ranges::find(linears_, name, &LinearTask::name);
        if (task == linears_.end()) continue;
        LinearSensitivity found{task->name, layer, shared_input, 0, {}, 0};
        round_linear(*leaf, layer, branches, b, found, out);
        state_.found_so_far.linears.push_back(std::move(found));
      }
      ++shared_input;
    }
  }

  void round_linear(nn::Linear& leaf, int layer, const std::vector<Branch>& branches, std::size_t b,
                    LinearSensitivity& found, StreamFile& out) {
    std::vector<std::string> used;
    const Weight weight = to_f32(open_checkpoint(files_, Json())->linear(found.name, used));
    const auto rounded = [&](const Scheme& scheme) {
      Weight codes = rtn(weight, layout_of(scheme, options_.group_size), pool_);
      if (!leaf.row_order().empty()) codes = reorder_rows(codes, leaf.row_order());
      auto original = leaf.exchange(backend_->prepare(codes));
      std::vector<float> output = run_branch(layer, b, branches[b].input);
      leaf.exchange(std::move(original));
      return output;
    };
    std::vector<float> probed = rounded(*options_.probe);
    found.probe_error = squared_difference(probed, branches[b].output);
    for (const Scheme* scheme : options_.schemes) {
      const bool same = scheme == options_.probe;
      found.errors.push_back(same ? found.probe_error : squared_difference(rounded(*scheme), branches[b].output));
    }
    add(probed, branches[b].input);
    for (std::size_t later = b + 1; later < branches.size(); ++later) add(probed, run_branch(layer, later, probed));
    out.append(probed);
  }

  // --- At the logits ---

  void measure_divergences() {
    StreamFile in(state_.streams(state_.layers), values_, false);
    const std::size_t kv = options_.kv_caches.size(), streams = 1 + kv + state_.found_so_far.linears.size();
    std::vector<double> sums(streams);
    model_.load_outside();
    const std::int64_t tokens = std::ssize(ids_);
    for (std::int64_t first = 0; first < tokens; first += kRows) add_divergences(in, first, sums);
    model_.drop_outside();
    for (std::size_t i = 1; i < streams; ++i) {
      const double mean = std::max(sums[i] / static_cast<double>(tokens), 0.0);
      if (!std::isfinite(mean)) {
        throw Error(ErrorCode::invalid_checkpoint, "the model's logits are not finite on the calibration tokens",
                    "the checkpoint is damaged, or needs a wider type than it is run in");
      }
      if (i <= kv) state_.found_so_far.kv[options_.kv_caches[i - 1]] = mean;
      if (i > kv) state_.found_so_far.linears[i - 1 - kv].kl = mean;
    }
  }

  void add_divergences(StreamFile& in, std::int64_t first, std::vector<double>& sums) {
    const std::int64_t count = std::min(kRows, std::ssize(ids_) - first), hidden = model_.config().hidden;
    std::vector<std::int32_t> rows(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<std::int32_t>(i);
    std::vector<float> states(static_cast<std::size_t>(count * hidden)), reference;
    const auto length = static_cast<std::int32_t>(count);
    pass_->set_sequences({&length, 1});  // the head looks at every token by itself
    for (std::size_t i = 0; i < sums.size(); ++i) {
      in.read(i, first * hidden, states);
      const std::span<const float> logits = pass_->logits(states.data(), rows);
      if (i == 0) {
        reference.assign(logits.begin(), logits.end());
      } else {
        sums[i] += divergence(reference, logits, count);
      }
    }
  }

  /// Sum over rows of KL(softmax(reference) || softmax(logits)).
  double divergence(std::span<const float> reference, std::span<const float> logits, std::int64_t rows) {
    const auto width = logits.size() / static_cast<std::size_t>(rows);
    std::vector<double> of_rows(static_cast<std::size_t>(rows));
    pool_.parallel_ranges(rows, 1, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t r = begin; r < end; ++r) {
        const std::size_t at = static_cast<std::size_t>(r) * width;
        of_rows[static_cast<std::size_t>(r)] = row_divergence(reference.subspan(at, width), logits.subspan(at, width));
      }
    });
    double sum = 0;
    for (const double value : of_rows) sum += value;
    return sum;
  }

  static double row_divergence(std::span<const float> p, std::span<const float> q) {
    const float top_p = std::ranges::max(p), top_q = std::ranges::max(q);
    double total_p = 0, total_q = 0, product = 0;
    for (std::size_t i = 0; i < p.size(); ++i) {
      const auto weight = static_cast<double>(std::exp(p[i] - top_p));
      total_p += weight;
      total_q += static_cast<double>(std::exp(q[i] - top_q));
      product += weight * (static_cast<double>(p[i]) - static_cast<double>(q[i]));
    }
    const double normalizers =
        static_cast<double>(top_q) - static_cast<double>(top_p) + std::log(total_q) - std::log(total_p);
    return product / total_p + normalizers;
  }

  Sensitivity in_order_of_the_model() const {
    Sensitivity result = state_.found_so_far;
    std::vector<LinearSensitivity> ordered;
    for (const LinearTask& task : linears_) {
      const auto found = std::ranges::find(result.linears, task.name, &LinearSensitivity::name);
      BITTERN_CHECK(found != result.linears.end(), "{} was not run by its branch", task.name);
      ordered.push_back(*found);
    }
    result.linears = std::move(ordered);
    return result;
  }

  const std::shared_ptr<const ModelFiles>& files_;
  std::span<const LinearTask> linears_;
  const SensitivityOptions& options_;
  State state_;
  std::unique_ptr<Backend> backend_;
  LayerwiseModel model_;
  ThreadPool pool_;
  std::vector<std::int32_t> lengths_, ids_;
  std::int64_t values_ = 0;  // of one stream
  std::unique_ptr<LayerwisePass> pass_;
};

}  // namespace

double LinearSensitivity::loss(std::size_t i) const {
  if (probe_error <= 0) return errors[i] > 0 ? errors[i] : 0;  // the probe lost nothing: its rounding is exact
  return kl * errors[i] / probe_error;
}

std::int64_t sensitivity_tokens(const ModelConfig& config, std::span<const LinearTask> linears,
                                const Calibration& calibration, std::int64_t wanted) {
  std::int64_t parameters = 0;
  for (const LinearTask& linear : linears) parameters += linear.out * linear.in;
  // A stream runs half of the layers on average, and then the head.
  const std::int64_t of_token = std::ssize(linears) * (parameters / 2 + config.vocab * config.hidden);
  const std::int64_t fitting = std::clamp(kWork / std::max<std::int64_t>(of_token, 1), kLeastTokens, kMostTokens);
  std::int64_t tokens = 0;
  for (const auto sequence : first_tokens(config, calibration, wanted > 0 ? wanted : fitting))
    tokens += std::ssize(sequence);
  return tokens;
}

/// The layer packed as it is; the largest linear as f32, its codes and their packing; four hidden states of each
/// branch; what a pass holds, and one more for the KV cache's precisions; or the logits of kRows tokens twice.
std::int64_t sensitivity_bytes(const ModelConfig& config, std::span<const LinearTask> layer, std::int64_t tokens) {
  std::int64_t all = 0, largest = 0;
  for (const LinearTask& linear : layer) {
    all += linear.out * linear.in;
    largest = std::max(largest, linear.out * linear.in);
  }
  const std::int64_t heads = (config.heads + 4LL * config.kv_heads) * config.head_dim;
  const std::int64_t widest =
      4LL * config.hidden + std::max<std::int64_t>(heads + config.heads * config.head_dim, 3LL * config.ffn);
  const std::int64_t rows = std::max(tokens, kRows);
  const std::int64_t pass = 4 * rows * (widest + config.hidden) + 4 * kRows * config.vocab;
  return std::max(4 * all + 6 * largest, 8 * kRows * config.vocab) + 2 * pass + 8 * 4 * tokens * config.hidden;
}

std::int64_t sensitivity_disk_bytes(const ModelConfig& config, std::size_t streams, std::int64_t tokens) {
  return 2 * static_cast<std::int64_t>(streams) * tokens * config.hidden * 4;
}

Sensitivity measure_sensitivity(const std::shared_ptr<const ModelFiles>& files, std::span<const LinearTask> linears,
                                const Calibration& calibration, const SensitivityOptions& options) {
  return Measurement(files, linears, calibration, options).run();
}

}  // namespace bittern::quant
