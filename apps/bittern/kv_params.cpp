// `bittern kv-params`: from statistics of K and V to the file that --kv-cache int8-static reads.
#include "quant/kv_params.h"

#include <bittern/error.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <vector>

#include "base/strings.h"
#include "kv_report.h"
#include "options.h"
#include "table.h"
#include "verb.h"

namespace bittern::cli {
namespace {

namespace fs = std::filesystem;

struct KvParamsOptions {
  std::string statistics, output, granularity = "auto";
  bool symmetric = false, overwrite = false, json = false;
};

fs::path output_file(const std::string& output) {
  std::error_code ignored;
  if (fs::is_directory(output, ignored)) return fs::path(output) / "kv_params.safetensors";
  if (output.ends_with(".safetensors")) return output;
  throw Error(ErrorCode::invalid_argument, "--output '" + output + "' is neither a directory nor named .safetensors",
              "give the model's directory, or a name such as kv_params.safetensors");
}

int run_kv_params(const KvParamsOptions& options) {
  const fs::path output = output_file(options.output);
  refuse_existing(output, options.overwrite);
  const quant::Statistics statistics = quant::Statistics::load(options.statistics);
  const quant::KvReport report = quant::kv_report(statistics, options.symmetric);
  const quant::KvGranularity granularity =
      options.granularity == "auto" ? report.recommended : quant::parse_kv_granularity(options.granularity);
  const quant::KvParamsResult result = quant::write_kv_params(statistics, granularity, options.symmetric, output);
  if (options.json) {
    Json json = quant::to_json(report);
    json["output"] = result.path.string();
    json["granularity"] = quant::kv_granularity_name(granularity);
    json["constant_groups"] = result.constant_layers;
    std::printf("%s\n", json.dump(2).c_str());
    return 0;
  }
  print_kv_report(report);
  if (result.constant_groups > 0) {
    std::printf("%d groups never moved on the calibration data and got a scale from their value: %s\n",
                result.constant_groups, join(result.constant_layers, "; ").c_str());
  }
  std::printf("wrote %s: one scale per %s, %s\n", result.path.c_str(),
              std::string(quant::kv_granularity_name(granularity)).c_str(),
              options.symmetric ? "symmetric" : "asymmetric");
  return 0;
}

}  // namespace

void refuse_existing(const fs::path& path, bool overwrite) {
  std::error_code ignored;
  if (overwrite || !fs::exists(path, ignored)) return;
  throw Error(ErrorCode::invalid_argument, path.string() + " exists",
              "choose another name, or replace it by --overwrite");
}

void print_kv_report(const quant::KvReport& report) {
  constexpr std::size_t kShown = 5;
  std::vector<std::string> titles = {"worst K first"};
  for (const char* what : {"K", "V"}) {
    for (const quant::KvGranularity granularity : quant::kKvGranularities)
      titles.push_back(std::string(what) + " per " + std::string(quant::kv_granularity_name(granularity)));
  }
  Table table(titles);
  const std::size_t shown = std::min(kShown, report.worst_first.size());
  for (std::size_t i = 0; i < shown; ++i) {
    const quant::KvLayerError& layer = report.layers[static_cast<std::size_t>(report.worst_first[i])];
    std::vector<std::string> cells = {"layer " + std::to_string(layer.layer)};
    for (const double* errors : {layer.k, layer.v}) {
      for (std::size_t g = 0; g < 3; ++g) {
        char cell[32];
        std::snprintf(cell, sizeof(cell), "%.2e", errors[g]);
        cells.push_back(cell);
      }
    }
    table.row(cells);
  }
  std::printf("Static int8, %s: squared error over energy with a scale per layer, head or channel, %s\n%s",
              report.symmetric ? "symmetric" : "asymmetric",
              report.measured ? "measured on the calibration tokens" : "expected from the ranges",
              table.text().c_str());
  if (report.worst_first.size() > shown)
    std::printf("  and %zu layers that lose less (--json lists all)\n", report.worst_first.size() - shown);
  std::printf("choose %s: %s\n", std::string(quant::kv_granularity_name(report.recommended)).c_str(),
              report.reason.c_str());
}

std::function<int()> declare_kv_params(CLI::App& command) {
  auto options = std::make_shared<KvParamsOptions>();
  command.add_option("statistics", options->statistics, "what `bittern calibrate --kv` wrote")
      ->required()
      ->check(CLI::ExistingFile)
      ->type_name("STATS");
  add_option(command, "--output,-o", options->output,
             "the model's directory, for kv_params.safetensors in it, or a .safetensors file")
      ->required();
  add_option(command, "--granularity", options->granularity,
             "what shares a scale: layer, head, channel; auto: what the report recommends")
      ->check(CLI::IsMember({"auto", "layer", "head", "channel"}));
  add_option(command, "--symmetric", options->symmetric, "zero point 0, scale absmax / 127");
  add_option(command, "--overwrite", options->overwrite, "replace the output");
  add_option(command, "--json", options->json, "print JSON");
  return [options] { return run_kv_params(*options); };
}

}  // namespace bittern::cli
