// `bittern calibrate`: statistics of activations over calibration data, to a file; or several such files merged.
#include "quant/calibrate.h"

#include <bittern/error.h>

#include <chrono>
#include <cstdio>
#include <memory>

#include "base/progress.h"
#include "base/strings.h"
#include "base/sysinfo.h"
#include "calibration_source.h"
#include "kv_report.h"
#include "model_loader.h"
#include "model_source.h"
#include "models/model.h"
#include "options.h"
#include "server/model_text.h"
#include "verb.h"

namespace bittern::cli {
namespace {

struct CalibrateVerbOptions {
  RunOptions run;
  std::string output, data, column;
  quant::CalibrationDataOptions sampling;
  std::vector<std::string> merge;
  bool kv = false, symmetric = false, resume = false, overwrite = false, json = false;
};

struct Run {
  quant::Statistics statistics;
  double seconds = 0;
  int resumed_layers = 0;
  std::int64_t requested = 0, disk_bytes = 0;
};

Json provenance_json(const quant::Provenance& p) {
  return {{"model", p.model},     {"model_fingerprint", p.fingerprint},
          {"data", p.data},       {"data_sha256", p.data_sha256},
          {"samples", p.samples}, {"tokens", p.tokens},
          {"seqlen", p.seqlen},   {"seed", p.seed},
          {"version", p.version}};
}

std::int64_t linear_count(const quant::Statistics& statistics) {
  std::int64_t count = 0;
  for (const quant::LayerStatistics& layer : statistics.layers) count += std::ssize(layer.inputs);
  return count;
}

void print_text(const CalibrateVerbOptions& options, const Run& run) {
  const quant::Provenance& p = run.statistics.provenance;
  std::printf("%s: %ld samples, %ld tokens of %s (SHA-256 %.12s...)\n", p.model.c_str(), static_cast<long>(p.samples),
              static_cast<long>(p.tokens), p.data.c_str(), p.data_sha256.c_str());
  if (run.requested > p.samples) {
    std::printf("  %ld samples were asked for; the data has no more\n", static_cast<long>(run.requested));
  }
  if (run.resumed_layers > 0) std::printf("  resumed after %d layers\n", run.resumed_layers);
  if (run.statistics.has_kv()) print_kv_report(quant::kv_report(run.statistics, options.symmetric));
  std::printf("wrote %s: the inputs of %ld linears%s in %zu layers, in %.1f s; peak memory of the process %s\n",
              options.output.c_str(), static_cast<long>(linear_count(run.statistics)),
              run.statistics.has_kv() ? ", K and V" : "", run.statistics.layers.size(), run.seconds,
              human_bytes(peak_resident_bytes()).c_str());
}

void print_json(const CalibrateVerbOptions& options, const Run& run) {
  Json json = {{"output", options.output},
               {"provenance", provenance_json(run.statistics.provenance)},
               {"layers", run.statistics.layers.size()},
               {"linears", linear_count(run.statistics)},
               {"resumed_layers", run.resumed_layers},
               {"hidden_state_bytes", run.disk_bytes},
               {"seconds", run.seconds},
               {"peak_resident_bytes", peak_resident_bytes()}};
  if (run.requested > 0) json["requested_samples"] = run.requested;
  if (run.statistics.has_kv()) json["kv"] = quant::to_json(quant::kv_report(run.statistics, options.symmetric));
  std::printf("%s\n", json.dump(2).c_str());
}

quant::CalibrationData load_data(const CalibrateVerbOptions& options, const ModelFiles& files) {
  CalibrationSourceOptions source;
  source.data = options.data;
  source.column = options.column;
  source.samples = options.sampling.samples;
  source.seqlen = options.sampling.seqlen;
  source.seed = options.sampling.seed;
  if (!options.run.chat_template.empty()) source.chat_template = read_text(options.run.chat_template);
  return read_calibration(files, source);
}

Run run_model(const CalibrateVerbOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  const auto files = open_model(options.run.model);
  const quant::CalibrationData data = load_data(options, *files);
  const auto backend = make_backend(options.run.backend, options.run.device);
  Progress progress("calibrating", static_cast<std::uint64_t>(load_config(*files).layers) * data.samples.size());
  quant::CalibrateOptions calibrate;
  calibrate.kv = options.kv;
  calibrate.output = options.output;
  calibrate.resume = options.resume;
  calibrate.seqlen = options.sampling.seqlen;
  calibrate.seed = options.sampling.seed;
  calibrate.progress = [&](int layer, int layers, std::int64_t, std::int64_t) {
    progress.set_note("layer " + std::to_string(layer + 1) + "/" + std::to_string(layers));
    progress.advance();
  };
  quant::CalibrateResult result = quant::calibrate(files, *backend, data, calibrate);
  progress.finish();
  Run run;
  run.statistics = std::move(result.statistics);
  run.resumed_layers = result.resumed_layers;
  run.requested = options.sampling.samples;
  run.disk_bytes = result.disk_bytes;
  run.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return run;
}

Run run_merge(const CalibrateVerbOptions& options) {
  if (options.merge.size() < 2) {
    throw Error(ErrorCode::invalid_argument, "--merge takes two files of statistics or more",
                "for example: bittern calibrate --merge a.safetensors b.safetensors -o both.safetensors");
  }
  if (!options.run.model.empty() || !options.data.empty() || options.kv || options.resume) {
    throw Error(ErrorCode::invalid_argument, "--merge runs no model: it takes no MODEL, --data, --kv or --resume");
  }
  Run run;
  run.statistics = quant::Statistics::load(options.merge.front());
  for (std::size_t i = 1; i < options.merge.size(); ++i) {
    run.statistics.merge(quant::Statistics::load(options.merge[i]));
  }
  run.statistics.save(options.output);
  return run;
}

int run_calibrate(const CalibrateVerbOptions& options) {
  refuse_existing(options.output, options.overwrite);
  const Run run = options.merge.empty() ? run_model(options) : run_merge(options);
  options.json ? print_json(options, run) : print_text(options, run);
  return 0;
}

}  // namespace

std::function<int()> declare_calibrate(CLI::App& command) {
  auto options = std::make_shared<CalibrateVerbOptions>();
  CalibrateVerbOptions& o = *options;
  add_model_argument(command, o.run.model);
  add_option(command, "--output,-o", o.output, "file of statistics to write (safetensors)")->required();
  add_option(command, "--data", o.data,
             "text (.txt, .md), JSON lines (.jsonl) or Parquet (.parquet); without it, the built-in text")
      ->check(CLI::ExistingFile);
  add_option(command, "--column", o.column,
             "of JSON lines or Parquet: the text or conversation to use; without it, messages, conversations, text, or "
             "prompt and completion")
      ->needs("--data");
  add_option(command, "--samples", o.sampling.samples, "sequences to run")->check(CLI::Range(1, 1 << 24));
  add_option(command, "--seqlen", o.sampling.seqlen, "tokens of the longest sequence")->check(CLI::Range(8, 1 << 24));
  add_option(command, "--seed", o.sampling.seed, "of the draw of sequences");
  add_option(command, "--chat-template", o.run.chat_template, "Jinja file for data with 'messages'")
      ->check(CLI::ExistingFile);
  add_option(command, "--kv", o.kv, "K and V too, for a static int8 KV cache");
  add_option(command, "--symmetric", o.symmetric, "report K and V for the symmetric form")->needs("--kv");
  add_option(command, "--resume", o.resume, "go on with a run that was killed, from OUTPUT.state");
  add_option(command, "--merge", o.merge, "two files of statistics or more to add up instead of running a model")
      ->allow_extra_args();
  add_option(command, "--overwrite", o.overwrite, "replace the output");
  add_option(command, "--json", o.json, "print JSON");
  add_device_options(command, o.run);
  return [options] { return run_calibrate(*options); };
}

}  // namespace bittern::cli
