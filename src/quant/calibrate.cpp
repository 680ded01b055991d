// The stream: embeddings to a file; then, for each layer, file to file through the layer with a probe attached.
#include "quant/calibrate.h"

#include <bittern/error.h>
#include <bittern/version.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <system_error>

#include "base/atomic_file.h"
#include "base/json.h"
#include "base/sha256.h"
#include "base/strings.h"
#include "models/layerwise.h"
#include "nn/linear.h"
#include "quant/kv_params.h"

namespace bittern::quant {
namespace {

namespace fs = std::filesystem;

// Rows of K and V of one layer that are kept to measure what rounding them costs.
constexpr std::int64_t kMeasuredRows = 4096;

// --- Hidden states on disk --------------------------------------------------------------------------------------

// A file of f32 read and written one sample at a time; the system's page cache holds what it has room for.
class HiddenFile {
 public:
  HiddenFile(fs::path path, bool create) : path_(std::move(path)) {
    fd_ = ::open(path_.c_str(), create ? O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC : O_RDONLY | O_CLOEXEC, 0644);
    if (fd_ < 0) fail("open");
  }
  ~HiddenFile() { ::close(fd_); }
  HiddenFile(const HiddenFile&) = delete;
  HiddenFile& operator=(const HiddenFile&) = delete;

  void read(std::int64_t offset, std::span<float> to) const {
    move(reinterpret_cast<char*>(to.data()), to.size_bytes(), offset,
         [&](char* at, std::size_t n, off_t from) { return ::pread(fd_, at, n, from); });
  }
  void write(std::int64_t offset, std::span<const float> from) {
    move(reinterpret_cast<const char*>(from.data()), from.size_bytes(), offset,
         [&](const char* at, std::size_t n, off_t to) { return ::pwrite(fd_, at, n, to); });
  }
  void sync() {
    if (::fdatasync(fd_) != 0) fail("sync");
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ErrorCode::io, "cannot " + what + " " + path_.string() + ": " + std::system_category().message(errno));
  }
  template <class Pointer, class Call>
  void move(Pointer at, std::size_t bytes, std::int64_t offset, Call call) const {
    while (bytes > 0) {
      const ssize_t done = call(at, bytes, static_cast<off_t>(offset));
      if (done < 0 && errno == EINTR) continue;
      if (done == 0) errno = EIO;
      if (done <= 0) fail("read or write hidden states in");
      at += done, offset += done, bytes -= static_cast<std::size_t>(done);
    }
  }

  fs::path path_;
  int fd_ = -1;
};

// --- The state of a run -----------------------------------------------------------------------------------------

std::string data_fingerprint(const CalibrationData& data) {
  Sha256 hash;
  for (const auto& sample : data.samples) {
    const auto length = static_cast<std::int64_t>(sample.size());
    hash.update(std::as_bytes(std::span(&length, 1)));
    hash.update(std::as_bytes(std::span(sample)));
  }
  return hash.finish();
}

fs::path state_directory(const CalibrateOptions& options) { return options.output.string() + ".state"; }

class State {
 public:
  State(const CalibrateOptions& options, const Json& run) : directory_(state_directory(options)), run_(run) {
    if (fs::exists(file())) {
      take_up(options.resume);
    } else {
      std::error_code failure;
      fs::create_directories(directory_, failure);
      if (failure) throw Error(ErrorCode::io, "cannot make " + directory_.string() + ": " + failure.message());
    }
  }

  /// Layers whose statistics are safe; -1: not even the embeddings.
  int done() const { return done_; }
  fs::path hidden(int layer) const { return directory_ / ("hidden-" + std::to_string(layer) + ".f32"); }
  fs::path statistics(int layer) const { return directory_ / ("layer-" + std::to_string(layer) + ".safetensors"); }

  /// hidden(layers) is written: from now on a new run starts there.
  void finish(int layers) {
    Json json = run_;
    json["done"] = layers;
    write_file_atomically(file(), json.dump(2) + "\n");
    std::error_code ignored;
    if (layers > 0) fs::remove(hidden(layers - 1), ignored);
    done_ = layers;
  }
  void remove() {
    std::error_code ignored;
    fs::remove_all(directory_, ignored);
  }

 private:
  fs::path file() const { return directory_ / "state.json"; }

  void take_up(bool resume) {
    Json found = read_json_file(file());
    const int done = require<int>(found, "done", "state.json");
    found.erase("done");
    if (!resume) {
      throw Error(ErrorCode::invalid_argument,
                  directory_.string() + " holds a run that did not finish (" + std::to_string(done) + " layers done)",
                  "go on with it by --resume, or delete it");
    }
    for (const auto& [key, value] : run_.items()) {
      if (found.value(key, Json()) == value) continue;
      throw Error(ErrorCode::invalid_argument,
                  directory_.string() + " is the state of another run: its " + key + " is " +
                      found.value(key, Json()).dump() + ", now it is " + value.dump(),
                  "resume with the same model, data and options, or delete it");
    }
    done_ = done;
  }

  fs::path directory_;
  Json run_;
  int done_ = -1;
};

void check_room(const fs::path& directory, std::int64_t bytes) {
  std::error_code failure;
  const fs::space_info space = fs::space(directory, failure);
  if (failure || space.available >= static_cast<std::uintmax_t>(bytes)) return;
  throw Error(ErrorCode::io,
              "hidden states take " + human_bytes(static_cast<std::uint64_t>(bytes)) + " in " + directory.string() +
                  ", which has " + human_bytes(space.available) + " free",
              "fewer --samples, a smaller --seqlen, or an output on another disk");
}

// --- One layer --------------------------------------------------------------------------------------------------

struct LinearNames final : nn::Visitor {
  void linear(const std::string& name, nn::Linear& leaf) override { names[&leaf] = name; }
  void norm(const std::string&, nn::RmsNorm&) override {}
  void embedding(const std::string&, nn::Embedding&) override {}
  std::map<const nn::Linear*, std::string> names;
};

class LayerProbe final : public nn::Probe {
 public:
  LayerProbe(Model& model, int layer, bool kv, std::int64_t tokens) : layer_(layer) {
    model.visit_layer(names_, layer);
    for (const auto& [leaf, name] : names_.names) result_.inputs.emplace(name, ChannelStatistics(leaf->in()));
    const ModelConfig& config = model.config();
    if (!kv) return;
    kv_heads_ = config.kv_heads;
    result_.k = result_.v = ChannelStatistics(static_cast<std::int64_t>(config.kv_heads) * config.head_dim);
    stride_ = (tokens + kMeasuredRows - 1) / kMeasuredRows;
  }

  void linear_input(const nn::Linear& linear, const Tensor& x) override {
    result_.inputs.at(names_.names.at(&linear)).add(x);
  }
  void kv(int, const Tensor& k, const Tensor& v) override {
    if (kv_heads_ == 0) return;
    keep(k, result_.k.tokens, k_rows_);
    keep(v, result_.v.tokens, v_rows_);
    result_.k.add(k);
    result_.v.add(v);
  }

  LayerStatistics finish() {
    for (const auto& [name, channels] : result_.inputs) require_finite(channels, "the input of " + name);
    if (kv_heads_ == 0) return std::move(result_);
    require_finite(result_.k, "K of layer " + std::to_string(layer_));
    require_finite(result_.v, "V of layer " + std::to_string(layer_));
    result_.k_error = measure(result_.k, k_rows_);
    result_.v_error = measure(result_.v, v_rows_);
    result_.measured = true;
    return std::move(result_);
  }

 private:
  static void require_finite(const ChannelStatistics& channels, const std::string& what) {
    if (channels.finite()) return;
    throw Error(ErrorCode::invalid_checkpoint, what + " is not finite on the calibration data",
                "the checkpoint is damaged, or overflows; `bittern eval ppl` shows whether it works at all");
  }
  // Every stride-th token of the whole run.
  void keep(const Tensor& rows, std::int64_t seen, std::vector<float>& kept) const {
    for (std::int64_t t = 0; t < rows.rows(); ++t) {
      if ((seen + t) % stride_ != 0) continue;
      for (std::int64_t h = 0; h < rows.shape[1]; ++h) {
        const float* head = rows.row<float>(t) + h * rows.stride[1];
        kept.insert(kept.end(), head, head + rows.cols());
      }
    }
  }
  KvErrors measure(const ChannelStatistics& channels, std::span<const float> rows) const {
    KvErrors errors{};
    std::size_t at = 0;
    for (const KvGranularity granularity : kKvGranularities) {
      for (const bool symmetric : {false, true}) {
        const KvScales scales = kv_scales(channels, kv_heads_, granularity, symmetric);
        errors[at++] = static_cast<float>(kv_rounding_error(rows, scales));
      }
    }
    return errors;
  }

  int layer_;
  LinearNames names_;
  LayerStatistics result_;
  int kv_heads_ = 0;
  std::int64_t stride_ = 1;
  std::vector<float> k_rows_, v_rows_;
};

// --- The run ----------------------------------------------------------------------------------------------------

class Calibration {
 public:
  Calibration(const std::shared_ptr<const ModelFiles>& files, Backend& backend, const CalibrationData& data,
              const CalibrateOptions& options)
      : data_(data),
        options_(options),
        model_(files, backend),
        pass_(model_, static_cast<int>(longest(data))),
        fingerprint_(model_fingerprint(*files)),
        origin_(files->origin()),
        state_(options, run_description()) {
    buffer_.resize(static_cast<std::size_t>(longest(data) * model_.config().hidden));
    result_.disk_bytes = 2 * data.tokens() * model_.config().hidden * static_cast<std::int64_t>(sizeof(float));
    result_.pass_bytes = pass_.bytes();
    result_.resumed_layers = std::max(0, state_.done());
  }

  CalibrateResult run() {
    check_room(state_directory(options_), state_.done() < 0 ? result_.disk_bytes : result_.disk_bytes / 2);
    if (state_.done() < 0) embed();
    for (int layer = state_.done(); layer < model_.config().layers; ++layer) run_layer(layer);
    collect();
    result_.statistics.save(options_.output);
    state_.remove();
    return std::move(result_);
  }

 private:
  static std::int64_t longest(const CalibrationData& data) {
    if (data.samples.empty()) throw Error(ErrorCode::invalid_argument, "no calibration samples");
    return std::ssize(*std::ranges::max_element(data.samples, {}, [](const auto& sample) { return sample.size(); }));
  }

  Json run_description() const {
    return {{"model_fingerprint", fingerprint_},
            {"samples_sha256", data_fingerprint(data_)},
            {"kv", options_.kv},
            {"version", kVersion}};
  }

  std::span<float> sample_buffer(const std::vector<std::int32_t>& sample) {
    return std::span(buffer_).first(sample.size() * static_cast<std::size_t>(model_.config().hidden));
  }

  // Calls body(sample, its hidden states, byte offset of them) with the pass set to the sample.
  template <class Body>
  void each_sample(Body body) {
    std::int64_t offset = 0;
    for (const auto& sample : data_.samples) {
      const std::int32_t length[] = {static_cast<std::int32_t>(sample.size())};
      pass_.set_sequences(length);
      const std::span<float> hidden = sample_buffer(sample);
      body(sample, hidden, offset);
      offset += static_cast<std::int64_t>(hidden.size_bytes());
    }
  }

  void embed() {
    HiddenFile out(state_.hidden(0), true);
    model_.load_outside();
    each_sample([&](const auto& sample, std::span<float> hidden, std::int64_t offset) {
      pass_.embed(sample, hidden.data());
      out.write(offset, hidden);
    });
    model_.drop_outside();
    out.sync();
    state_.finish(0);
  }

  void run_layer(int layer) {
    const HiddenFile in(state_.hidden(layer), false);
    HiddenFile out(state_.hidden(layer + 1), true);
    model_.load_layer(layer);
    LayerProbe probe(model_.model(), layer, options_.kv, data_.tokens());
    std::int64_t count = 0;
    each_sample([&](const auto&, std::span<float> hidden, std::int64_t offset) {
      in.read(offset, hidden);
      pass_.forward_layer(layer, hidden.data(), &probe);
      out.write(offset, hidden);
      if (options_.progress) options_.progress(layer, model_.config().layers, ++count, std::ssize(data_.samples));
    });
    model_.drop_layer(layer);
    save_layer(layer, probe.finish());
    out.sync();
    state_.finish(layer + 1);
  }

  Statistics header() const {
    Statistics statistics;
    statistics.provenance = {origin_,        fingerprint_,    data_.name,
                             data_.sha256,   kVersion,        std::ssize(data_.samples),
                             data_.tokens(), options_.seqlen, std::to_string(options_.seed)};
    statistics.kv_heads = model_.config().kv_heads;
    statistics.head_dim = model_.config().head_dim;
    return statistics;
  }

  // Layers lie in the state as statistics of a model of one layer.
  void save_layer(int layer, LayerStatistics&& layer_statistics) const {
    Statistics one = header();
    one.layers.push_back(std::move(layer_statistics));
    one.save(state_.statistics(layer));
  }

  void collect() {
    result_.statistics = header();
    for (int layer = 0; layer < model_.config().layers; ++layer) {
      result_.statistics.layers.push_back(std::move(Statistics::load(state_.statistics(layer)).layers.at(0)));
    }
  }

  const CalibrationData& data_;
  const CalibrateOptions& options_;
  LayerwiseModel model_;
  LayerwisePass pass_;
  std::string fingerprint_, origin_;
  State state_;
  std::vector<float> buffer_;  // hidden states of one sample
  CalibrateResult result_;
};

}  // namespace

std::string model_fingerprint(const ModelFiles& files) {
  constexpr std::size_t kEnds = 64 << 10;
  Sha256 hash;
  hash.update(files.require("config.json").text());
  for (const std::string& name : files.list()) {
    if (!name.ends_with(".safetensors") || name == "kv_params.safetensors") continue;
    const FileBytes file = files.require(name);
    hash.update(name + " " + std::to_string(file.bytes.size()) + "\n");
    hash.update(file.bytes.first(std::min(kEnds, file.bytes.size())));
    hash.update(file.bytes.last(std::min(kEnds, file.bytes.size())));
  }
  return hash.finish();
}

CalibrateResult calibrate(const std::shared_ptr<const ModelFiles>& files, Backend& backend, const CalibrationData& data,
                          const CalibrateOptions& options) {
  return Calibration(files, backend, data, options).run();
}

}  // namespace bittern::quant
