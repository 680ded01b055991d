// The stream: each decoder layer is mapped, handed to the algorithm, written and unmapped before the next, so that
// memory holds one layer and never the model. Nothing is decided here that the Job did not decide before.
#include <bittern/error.h>
#include <bittern/quantize.h>
#include <bittern/version.h>
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <optional>
#include <string>

#include "base/atomic_file.h"
#include "base/check.h"
#include "base/file_lock.h"
#include "base/sha256.h"
#include "base/thread_pool.h"
#include "quant/bit_budget.h"
#include "quant/calibrate.h"
#include "quant/calibrated_model.h"
#include "quant/evaluate.h"
#include "quant/job.h"
#include "quant/layer_parts.h"
#include "quant/report.h"
#include "quant/weight_error.h"
#include "tensor/convert.h"
#include "tensor/safetensors.h"

namespace bittern::quant {
namespace {

/// The C library keeps large freed blocks for itself; without this the peak is a matter of fragmentation and not of
/// the plan that the user was shown.
void return_free_memory() {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

/// What the whole stream shares: the job, the writer, the sums and the progress so far.
class Stream {
 public:
  Stream(std::shared_ptr<const ModelFiles> files, const Job& job, const QuantizeOptions& options,
         const std::filesystem::path& directory, QuantizeSink& sink)
      : files_(std::move(files)),
        job_(job),
        sink_(sink),
        pool_(options.threads > 0 ? options.threads : ThreadPool::default_size()),
        writer_(directory, job.outputs, options.max_shard_bytes) {
    if (job.algorithm->needs_calibration)
      calibrated_ = std::make_unique<CalibratedModel>(files_, options.calibration, options.threads);
  }

  const Job& job() const { return job_; }
  ThreadPool& pool() { return pool_; }
  CalibratedModel* calibrated() { return calibrated_.get(); }
  /// A fresh mapping of the source. Its pages leave memory with it, so one is opened for each step of the stream.
  std::unique_ptr<Checkpoint> open() const { return open_checkpoint(files_, Json()); }

  /// To the part that is open, or straight into the checkpoint.
  void write(std::string_view name, std::span<const std::byte> data) {
    part_ ? part_->write(name, data) : writer_.write(name, data);
  }
  void open_part(const std::filesystem::path& path, std::vector<TensorSpec> tensors) {
    part_ = std::make_unique<SafetensorsWriter>(path, std::move(tensors));
    part_begin_ = linears_.size();
    part_error_ = {};
  }
  /// Closes it; what its linears lost.
  Json finish_part() {
    part_->finish();
    part_.reset();
    Json linears = Json::array();
    for (std::size_t i = part_begin_; i < linears_.size(); ++i) linears.push_back(to_json(linears_[i]));
    return {{"linears", std::move(linears)}, {"error", to_json(part_error_)}};
  }
  /// Takes up a layer that an earlier run finished.
  void restore(const LayerJob& layer, const Json& report) {
    for (const Json& linear : report.at("linears")) linears_.push_back(linear_report_from_json(linear));
    total_ += weight_error_from_json(report.at("error"));
    ++finished_layers_;
    advance("layer " + std::to_string(layer.index), layer.source_bytes);
  }

  void copy(const Checkpoint& checkpoint, const TensorEntry& entry) { copy(checkpoint.dense(entry.name), entry); }
  void copy(const Weight& weight, const TensorEntry& entry) {
    write(entry.name, {weight.data.as<const std::byte>(), static_cast<std::size_t>(entry.bytes)});
    advance(entry.name, static_cast<std::int64_t>(entry.bytes));
  }

  void advance(std::string_view stage, std::int64_t bytes) {
    return_free_memory();
    done_ += bytes;
    sink_.progress({stage, finished_layers_, static_cast<int>(job_.layers.size()), done_, job_.plan.source_bytes});
  }

  void record(LinearReport report, const WeightError& error) {
    total_ += error;
    part_error_ += error;
    linears_.push_back(std::move(report));
  }

  void set_resumed(int layers) { resumed_ = layers; }
  void finish_layer() { ++finished_layers_; }
  void finish() { writer_.finish(); }
  const std::vector<std::string>& files() const { return writer_.files(); }

  void fill(QuantizeReport& report) {
    report.nmse = total_.nmse();
    report.resumed_layers = resumed_;
    report.linears = std::move(linears_);
    const auto worst = std::ranges::max_element(report.linears, {}, &LinearReport::nmse);
    report.worst = worst->name;
  }

 private:
  std::shared_ptr<const ModelFiles> files_;
  const Job& job_;
  QuantizeSink& sink_;
  ThreadPool pool_;
  std::unique_ptr<CalibratedModel> calibrated_;
  ShardedSafetensorsWriter writer_;
  std::unique_ptr<SafetensorsWriter> part_;
  std::size_t part_begin_ = 0;
  WeightError part_error_;
  std::vector<LinearReport> linears_;
  WeightError total_;
  std::int64_t done_ = 0;
  int finished_layers_ = 0, resumed_ = 0;
};

/// The seam of algorithm.h over one layer of the stream.
class StreamedLayer final : public LayerWork {
 public:
  StreamedLayer(Stream& stream, const LayerJob& layer, const Checkpoint& checkpoint)
      : stream_(stream), layer_(layer), checkpoint_(checkpoint) {}

  std::span<const LinearTask> linears() const override { return layer_.linears; }
  std::int64_t group_size() const override { return stream_.job().plan.group_size; }
  GroupLayout layout(const LinearTask& linear) const override { return layout_of(*linear.scheme, group_size()); }
  GptqOptions gptq() const override { return stream_.job().gptq; }
  ThreadPool& pool() override { return stream_.pool(); }
  int layer() const override { return layer_.index; }
  const Checkpoint& checkpoint() const override { return checkpoint_; }
  CalibratedModel* calibrated() override { return stream_.calibrated(); }

  void replace(const std::string& tensor, Weight value) override {
    replaced_.insert_or_assign(tensor, std::move(value));
  }
  void write_kept() {
    for (const TensorEntry& entry : layer_.kept) {
      const auto found = replaced_.find(entry.name);
      found == replaced_.end() ? stream_.copy(checkpoint_, entry) : stream_.copy(found->second, entry);
    }
  }

  Weight load(const LinearTask& linear) override {
    std::vector<std::string> used;
    const Weight stored = checkpoint_.linear(linear.name, used);
    if (stored.out != linear.out || stored.in != linear.in) {
      throw Error(ErrorCode::invalid_checkpoint, linear.name + " changed its shape while it was quantized",
                  "leave the source alone until the run ends");
    }
    Weight result = Weight::allocate(linear.name, Format::dense(DType::f32), linear.out, linear.in);
    const std::size_t row_bytes = static_cast<std::size_t>(linear.in) * dtype_size(stored.format.dtype);
    pool().parallel_ranges(linear.out, 1, [&](std::int64_t begin, std::int64_t end, int) {
      const std::byte* source = stored.data.as<const std::byte>() + static_cast<std::size_t>(begin) * row_bytes;
      convert_to_f32(source, stored.format.dtype, (end - begin) * linear.in, result.data.row<float>(begin));
    });
    return result;
  }

  void store(const LinearTask& linear, const Weight& original, const Weight& quantized,
             const StoreNotes& notes) override {
    BITTERN_CHECK(linear.name == quantized.name, "{} stored as {}", linear.name, quantized.name);
    const WeightError error = weight_error(original, quantized, pool());
    LinearReport report{linear.name,
                        linear.layer,
                        linear.out,
                        linear.in,
                        std::string(linear.scheme->name),
                        error.nmse(),
                        error.cosine(),
                        error.max_abs,
                        notes.loss_before,
                        notes.loss_after,
                        notes.text,
                        stream_.job().source_bytes.at(linear.name),
                        0};
    linear.scheme->pack(quantized, [&](std::string_view name, std::span<const std::byte> data) {
      stream_.write(name, data);
      report.output_bytes += static_cast<std::int64_t>(data.size());
    });
    const std::int64_t source_bytes = report.source_bytes;
    stream_.record(std::move(report), error);
    stream_.advance(linear.name, source_bytes);
  }

 private:
  Stream& stream_;
  const LayerJob& layer_;
  const Checkpoint& checkpoint_;
  std::map<std::string, Weight> replaced_;
};

void write_outside(Stream& stream) {
  for (const TensorEntry& entry : stream.job().outside) stream.copy(*stream.open(), entry);
}

void write_layer(Stream& stream, const LayerJob& layer) {
  const auto checkpoint = stream.open();
  StreamedLayer work(stream, layer, *checkpoint);
  stream.job().algorithm->run(work);
  work.write_kept();
  stream.finish_layer();
}

std::vector<TensorSpec> layer_outputs(const Job& job, const LayerJob& layer) {
  std::vector<TensorSpec> specs;
  for (const LinearTask& linear : layer.linears) {
    for (TensorSpec& spec : linear.scheme->tensors(linear, job.plan.group_size)) specs.push_back(std::move(spec));
  }
  for (const TensorEntry& entry : layer.kept) specs.push_back({entry.name, *entry.dtype, entry.shape});
  return specs;
}

Json schemes_of(const Job& job) {
  Json schemes = Json::object();
  for (const LayerJob& layer : job.layers) {
    for (const LinearTask& linear : layer.linears) schemes[std::string(linear.scheme->name)].push_back(linear.name);
  }
  return schemes;
}

/// Everything that the parts of a job depend on.
Json job_key(const ModelFiles& files, const Job& job, const QuantizeOptions& options) {
  return {{"version", kVersion},
          {"model_fingerprint", model_fingerprint(files)},
          {"schemes", schemes_of(job)},
          {"algorithm", options.algorithm},
          {"damping", job.gptq.damping},
          {"act_order", job.gptq.act_order},
          {"group_size", options.group_size},
          {"skip", options.skip},
          {"calibration_tokens_sha256", tokens_sha256(options.calibration)},
          {"search_tokens", options.calibration.search_tokens}};
}

/// OUTPUT.suffix
std::filesystem::path beside(const QuantizeOptions& options, const std::string& suffix) {
  std::filesystem::path path = options.output;
  if (!path.has_filename()) path = path.parent_path();
  return path += suffix;
}

/// Two runs to one output would take up each other's layers.
FileLock lock_output(const QuantizeOptions& options) {
  const std::filesystem::path path = beside(options, ".lock");
  if (std::optional<FileLock> lock = FileLock::try_lock(path)) return std::move(*lock);
  const std::string holder = FileLock::holder(path);
  throw Error(
      ErrorCode::invalid_argument,
      "another run" + (holder.empty() ? "" : " (process " + holder + ")") + " is writing to " + options.output.string(),
      "wait until it ends, or choose another output");
}

/// Layer after layer into parts, after those that an earlier run left.
void write_parts(Stream& stream, LayerParts& parts) {
  for (const LayerJob& layer : stream.job().layers) {
    if (layer.index < parts.finished()) {
      stream.restore(layer, parts.report(layer.index));
      if (layer.index + 1 == parts.finished())
        stream.calibrated()->restore(parts.hidden(stream.calibrated()->hidden().size()));
      continue;
    }
    stream.open_part(parts.next_file(), layer_outputs(stream.job(), layer));
    write_layer(stream, layer);
    parts.finish(stream.finish_part(), stream.calibrated()->hidden());
  }
}

void assemble(Stream& stream, const LayerParts& parts) {
  for (int layer = 0; layer < parts.finished(); ++layer) {
    const SafetensorsFile part = parts.open(layer);
    std::map<std::string_view, const SafetensorsEntry*> entries;
    for (const SafetensorsEntry& entry : part.entries) entries[entry.name] = &entry;
    for (const TensorSpec& spec : layer_outputs(stream.job(), stream.job().layers[static_cast<std::size_t>(layer)]))
      stream.write(spec.name, entries.at(spec.name)->data);
  }
}

/// Work of minutes to hours goes through parts; what takes seconds is written straight.
void write_tensors(Stream& stream, const ModelFiles& files, const QuantizeOptions& options) {
  if (!stream.calibrated()) {
    write_outside(stream);
    for (const LayerJob& layer : stream.job().layers) write_layer(stream, layer);
    stream.finish();
    return;
  }
  LayerParts parts(beside(options, ".resume"), job_key(files, stream.job(), options));
  stream.set_resumed(parts.finished());
  write_parts(stream, parts);
  write_outside(stream);
  assemble(stream, parts);
  stream.finish();
  parts.remove();
}

/// config.json goes last: without it no program takes the directory for a model.
void write_other_files(const ModelFiles& files, const Json& config, const std::filesystem::path& directory,
                       std::vector<std::string>& written) {
  for (const std::string& name : files_to_copy(files)) {
    write_file_atomically(directory / name, files.require(name).text());
    written.push_back(name);
  }
  write_file_atomically(directory / "config.json", config.dump(2) + "\n");
  written.push_back("config.json");
}

void write_checkpoint(const std::shared_ptr<const ModelFiles>& files, const Job& job, const QuantizeOptions& options,
                      QuantizeSink& sink, QuantizeReport& report) {
  AtomicDirectory output(options.output,
                         options.overwrite ? AtomicDirectory::Existing::replace : AtomicDirectory::Existing::refuse);
  Stream stream(files, job, options, output.partial(), sink);
  write_tensors(stream, *files, options);
  report.files = stream.files();
  write_other_files(*files, job.config, output.partial(), report.files);
  output.commit();
  stream.fill(report);
  std::ranges::sort(report.files);
}

void evaluate(const std::shared_ptr<const ModelFiles>& files, const QuantizeOptions& options, QuantizeSink& sink,
              QuantizeReport& report) {
  report.quality_absent = options.evaluation.absent;
  if (options.evaluation.text.empty()) return;
  try {
    report.quality = evaluate_output(files, report.plan, options.evaluation, options.threads,
                                     [&](std::int64_t done, std::int64_t total) { sink.evaluating(done, total); });
  } catch (const Error& error) {
    throw Error(error.code(),
                options.output.string() + " is written, but comparing it with the original failed: " + error.message(),
                error.hint());
  }
}

/// A directory that goes with this object.
class ScratchDirectory {
 public:
  explicit ScratchDirectory(std::filesystem::path path) : path_(std::move(path)) {}
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  ~ScratchDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

void check_options(const QuantizeOptions& options) {
  const auto invalid = [](const std::string& message) { throw Error(ErrorCode::invalid_argument, message); };
  if (options.output.empty()) invalid("no output directory was given");
  if (options.max_shard_bytes <= 0) invalid("max_shard_bytes is " + std::to_string(options.max_shard_bytes));
  if (options.threads < 0) invalid("threads is " + std::to_string(options.threads));
}

}  // namespace

QuantizePlan plan_quantize(const std::shared_ptr<const ModelFiles>& files, const QuantizeOptions& options,
                           QuantizeSink* sink) {
  const Job job = make_job(files, options);
  if (!options.budget) return job.plan;
  QuantizeSink ignore;
  const ScratchDirectory scratch(beside(options, ".plan-" + std::to_string(::getpid())));
  return job_within_budget(files, job, options, scratch.path(), sink ? *sink : ignore).plan;
}

QuantizeReport quantize(const std::shared_ptr<const ModelFiles>& files, const QuantizeOptions& options,
                        QuantizeSink& sink) {
  const auto start = std::chrono::steady_clock::now();
  check_options(options);
  Job job = make_job(files, options);
  const FileLock lock = lock_output(options);
  if (options.budget) job = job_within_budget(files, job, options, beside(options, ".resume"), sink);
  sink.plan(job.plan);
  QuantizeReport report;
  report.plan = job.plan;
  write_checkpoint(files, job, options, sink, report);
  if (options.budget) ScratchDirectory(beside(options, ".resume"));
  evaluate(files, options, sink, report);
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

}  // namespace bittern::quant
