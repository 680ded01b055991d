// `bittern quantize`: prints what it will do and what that takes, does it, and reports what every linear lost.
#include <bittern/quantize.h>

#include <bittern/error.h>

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>

#include "base/atomic_file.h"
#include "base/json.h"
#include "base/progress.h"
#include "base/strings.h"
#include "base/sysinfo.h"
#include "model_source.h"
#include "quant/report.h"
#include "quant/report_html.h"
#include "quantize_budget.h"
#include "quantize_options.h"
#include "table.h"
#include "verb.h"

namespace bittern::cli {
namespace {

std::string bytes(std::int64_t count) { return human_bytes(static_cast<std::uint64_t>(count)); }

void print_shares(const quant::QuantizePlan& plan) {
  for (const quant::SchemeShare& share : plan.shares) {
    if (plan.shares.size() == 1) return;
    std::fprintf(stderr, "    %s: %d linears, %s parameters, %s\n", share.scheme.c_str(), share.linears,
                 human_count(static_cast<std::uint64_t>(share.parameters)).c_str(), bytes(share.output_bytes).c_str());
  }
}

void print_plan(const quant::QuantizePlan& plan) {
  std::fprintf(stderr, "%s (%s, %d layers) -> %s\n", plan.source.c_str(), plan.architecture.c_str(), plan.layers,
               plan.output.c_str());
  std::fprintf(stderr, "  %s by %s, group size %ld: %d linears, %s of %s parameters, %.2f bits per quantized weight\n",
               plan.scheme.c_str(), plan.algorithm.c_str(), static_cast<long>(plan.group_size), plan.linears,
               human_count(static_cast<std::uint64_t>(plan.quantized_parameters)).c_str(),
               human_count(static_cast<std::uint64_t>(plan.parameters)).c_str(), plan.bits_per_weight());
  print_shares(plan);
  if (plan.calibration_tokens > 0) {
    std::fprintf(
        stderr, "  calibration: %s, %s tokens, searches on %s of them\n", plan.calibration_name.c_str(),
        human_count(static_cast<std::uint64_t>(plan.calibration_tokens)).c_str(),
        human_count(static_cast<std::uint64_t>(std::min(plan.search_tokens, plan.calibration_tokens))).c_str());
  }
  std::fprintf(stderr, "  tensors on disk: %s now, %s afterwards (%.2f bits per parameter); free disk %s\n",
               bytes(plan.source_bytes).c_str(), bytes(plan.output_bytes).c_str(), plan.bits_per_parameter(),
               bytes(plan.free_disk_bytes).c_str());
  if (plan.budget) print_budget(*plan.budget, plan.bits_per_weight());
  std::fprintf(stderr, "  memory: at most %s at once, for %s\n", bytes(plan.peak_bytes).c_str(), plan.peak_at.c_str());
  if (plan.evaluation_windows > 0) {
    std::fprintf(stderr, "  evaluation at the end: %s, %ld windows of %ld tokens, %s of disk meanwhile\n",
                 plan.evaluation_name.c_str(), static_cast<long>(plan.evaluation_windows),
                 static_cast<long>(plan.evaluation_context), bytes(plan.evaluation_disk_bytes).c_str());
  }
  for (const auto& leftover : plan.leftovers) {
    std::fprintf(stderr, "  a run that did not finish left %s; delete it if none is running\n", leftover.c_str());
  }
}

class ProgressSink final : public quant::QuantizeSink {
 public:
  void draft(const quant::QuantizePlan& plan) override {
    std::fprintf(
        stderr,
        "%s -> %s\n  measuring what each linear loses, on %ld tokens: the whole run takes at most %s of memory, the "
        "measurement %s of disk\n",
        plan.source.c_str(), plan.output.c_str(), static_cast<long>(plan.sensitivity_tokens),
        bytes(plan.peak_bytes).c_str(), bytes(plan.sensitivity_disk_bytes).c_str());
  }
  void measuring(int done, int layers) override {
    if (!measurement_)
      measurement_ = std::make_unique<Progress>("measuring sensitivity", static_cast<std::uint64_t>(layers));
    measurement_->advance(static_cast<std::uint64_t>(done - measured_));
    measured_ = done;
  }
  void plan(const quant::QuantizePlan& plan) override {
    if (measurement_) measurement_->finish();
    print_plan(plan);
  }
  void progress(const quant::QuantizeProgress& p) override {
    if (!bar_)
      bar_ = std::make_unique<Progress>("quantizing", static_cast<std::uint64_t>(p.total), Progress::Unit::bytes);
    bar_->set_note("layer " + std::to_string(p.layer) + "/" + std::to_string(p.layers));
    bar_->advance(static_cast<std::uint64_t>(p.done - done_));
    done_ = p.done;
  }
  void evaluating(std::int64_t done, std::int64_t total) override {
    if (!evaluation_) {
      finish();
      evaluation_ = std::make_unique<Progress>("evaluating", static_cast<std::uint64_t>(total));
    }
    evaluation_->advance(static_cast<std::uint64_t>(done - evaluated_));
    evaluated_ = done;
  }
  void finish() {
    for (const auto* bar : {&measurement_, &bar_, &evaluation_}) {
      if (*bar) (*bar)->finish();
    }
  }

 private:
  std::unique_ptr<Progress> measurement_, bar_, evaluation_;
  std::int64_t done_ = 0, evaluated_ = 0;
  int measured_ = 0;
};

// A model has hundreds of linears; a person wants those that lost most, and --json has them all.
std::vector<quant::LinearReport> worst_linears(const quant::QuantizeReport& report) {
  constexpr std::size_t kShown = 8;
  std::vector<quant::LinearReport> linears = report.linears;
  std::stable_sort(linears.begin(), linears.end(), [](const auto& a, const auto& b) { return a.nmse > b.nmse; });
  if (linears.size() > kShown) linears.resize(kShown);
  return linears;
}

void print_quality(const quant::QuantizeReport& report) {
  if (!report.quality) {
    std::printf("  quality not measured: %s\n", report.quality_absent.c_str());
    return;
  }
  const quant::QualityReport& q = *report.quality;
  std::printf("  perplexity %.4f -> %.4f (x %.4f)\n", q.reference_perplexity, q.perplexity,
              q.perplexity / q.reference_perplexity);
  std::printf("  KL divergence: mean %.6f +/- %.6f", q.kl, q.kl_error);
  for (const auto& [percent, kl] : q.kl_percentiles) std::printf(", %g %% under %.2g", percent, kl);
  std::printf(", max %.2g\n  same most likely token: %.2f +/- %.2f %%\n", q.kl_max, 100 * q.same_top,
              100 * q.same_top_error);
  std::printf("  measured on %s: %ld tokens scored in %ld windows of %ld, in %.1f s\n", q.name.c_str(),
              static_cast<long>(q.tokens), static_cast<long>(q.windows), static_cast<long>(q.context), q.seconds);
}

void print_report(const quant::QuantizeReport& report, std::uint64_t peak) {
  Table table({"lost most", "shape", "NMSE", "cosine", "max error"});
  char cells[3][32];
  for (const quant::LinearReport& linear : worst_linears(report)) {
    std::snprintf(cells[0], sizeof(cells[0]), "%.5f", linear.nmse);
    std::snprintf(cells[1], sizeof(cells[1]), "%.5f", linear.cosine);
    std::snprintf(cells[2], sizeof(cells[2]), "%.4f", linear.max_abs);
    table.row(
        {linear.name, std::to_string(linear.out) + " x " + std::to_string(linear.in), cells[0], cells[1], cells[2]});
  }
  if (report.resumed_layers > 0) std::printf("  resumed after %d layers\n", report.resumed_layers);
  std::printf("%s  all %zu linears: NMSE %.5f (--json lists each)\n", table.text().c_str(), report.linears.size(),
              report.nmse);
  print_quality(report);
  std::printf("  wrote %s in %.1f s; peak memory of the process %s\n", report.plan.output.c_str(), report.seconds,
              human_bytes(peak).c_str());
}

// A page that cannot be written must be known before hours of work, not after them.
void check_html(const QuantizeVerbOptions& options) {
  if (options.html.empty()) return;
  if (options.dry_run) {
    throw Error(ErrorCode::invalid_argument, "--html reports what was done and --dry-run does nothing",
                "leave one of them out");
  }
  const std::filesystem::path path = options.html;
  const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : ".";
  if (!std::filesystem::is_directory(folder)) {
    throw Error(ErrorCode::not_found, "--html " + options.html + ": there is no folder " + folder.string(),
                "make it first, or name a file in another");
  }
  if (std::filesystem::is_directory(path)) {
    throw Error(ErrorCode::invalid_argument, "--html " + options.html + " is a directory", "name a file in it");
  }
  if (access(folder.c_str(), W_OK) != 0) {
    throw Error(ErrorCode::io, "--html " + options.html + ": the folder " + folder.string() + " is not writable",
                "name a file in another");
  }
}

bool has_serving(const quant::QuantizePlan& plan) { return plan.budget && !plan.budget->kv_cache.empty(); }

int run_quantize(const QuantizeVerbOptions& options) {
  check_html(options);
  const auto files = open_model(options.model);
  const quant::QuantizeOptions quantize_options = resolved(options, *files);
  ProgressSink sink;
  if (options.dry_run) {
    const quant::QuantizePlan plan = quant::plan_quantize(files, quantize_options, &sink);
    sink.finish();
    options.json ? static_cast<void>(std::printf("%s\n", quant::to_json(plan).dump(2).c_str())) : print_plan(plan);
    return 0;
  }
  const quant::QuantizeReport report = quant::quantize(files, quantize_options, sink);
  sink.finish();
  const std::uint64_t peak = peak_resident_bytes();
  if (!options.html.empty()) write_file_atomically(options.html, quant::to_html(report, peak));
  if (options.json) {
    Json json = quant::to_json(report);
    json["peak_resident_bytes"] = peak;
    if (has_serving(report.plan)) json["serve"] = serving_command(report.plan, options.serving);
    std::printf("%s\n", json.dump(2).c_str());
  } else {
    print_report(report, peak);
    if (has_serving(report.plan))
      std::printf("  serve it within the budget: %s\n", serving_command(report.plan, options.serving).c_str());
    if (!options.html.empty()) std::printf("  report in %s\n", options.html.c_str());
  }
  return 0;
}

}  // namespace

std::function<int()> declare_quantize(CLI::App& command) {
  auto options = std::make_shared<QuantizeVerbOptions>();
  add_quantize_options(command, *options);
  return [options] { return run_quantize(*options); };
}

}  // namespace bittern::cli
