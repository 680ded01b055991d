// Workspaces on the command line: docs/workspace.md shows what is printed here.
#include "convert_workspace.h"

#include <bittern/error.h>

#include <chrono>
#include <cstdio>
#include <memory>

#include "base/json.h"
#include "base/progress.h"
#include "base/strings.h"
#include "base/sysinfo.h"
#include "model_source.h"
#include "models/workspace_export.h"
#include "tensor/workspace.h"

namespace bittern::cli {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

std::string size(std::int64_t bytes) { return human_bytes(static_cast<std::uint64_t>(bytes)); }

// A function that feeds a progress bar, made when the total is known.
std::function<void(std::int64_t, std::int64_t)> bar_function(std::unique_ptr<Progress>& bar, const char* title) {
  return [&bar, title, shown = std::int64_t{0}](std::int64_t done, std::int64_t total) mutable {
    if (!bar) bar = std::make_unique<Progress>(title, static_cast<std::uint64_t>(total), Progress::Unit::bytes);
    bar->advance(static_cast<std::uint64_t>(done - shown));
    shown = done;
  };
}

OrderedJson to_json(const ConvertWorkspaceOptions& options, const WorkspaceReport& report, double seconds) {
  return {{"output", options.output},
          {"dry_run", options.dry_run},
          {"level", report.level},
          {"layout", report.layout.name},
          {"layout_version", report.layout.version},
          {"formats", report.formats},
          {"parameters", report.parameters},
          {"weights_bytes", report.bytes},
          {"free_disk_bytes", report.free_disk_bytes},
          {"files", report.files},
          {"seconds", seconds},
          {"peak_resident_bytes", peak_resident_bytes()}};
}

void print_text(const ConvertWorkspaceOptions& options, const WorkspaceReport& report, double seconds) {
  std::string formats;
  for (const auto& [name, count] : report.formats) {
    formats += (formats.empty() ? "" : ", ") + std::to_string(count) + " " + name;
  }
  const std::string packed = "for " + report.level + " (" + report.layout.describe() + ")";
  if (options.dry_run) {
    std::printf("would write %s: about %s of weights packed %s and %zu files; the disk has %s free\n",
                options.output.c_str(), size(report.bytes).c_str(), packed.c_str(), report.files.size(),
                size(report.free_disk_bytes).c_str());
    return;
  }
  std::printf("wrote %s in %s: %s of weights packed %s; %s; %s parameters, %.2f bits each\n", options.output.c_str(),
              human_seconds(seconds).c_str(), size(report.bytes).c_str(), packed.c_str(), formats.c_str(),
              human_count(static_cast<std::uint64_t>(report.parameters)).c_str(),
              8.0 * static_cast<double>(report.bytes) / static_cast<double>(report.parameters));
  std::printf("  run it:  bittern chat %s    check it:  bittern convert --verify %s    tune it:  %s\n",
              options.output.c_str(), options.output.c_str(), (options.output + "/weights/config.ini").c_str());
}

}  // namespace

int convert_to_workspace(const ConvertWorkspaceOptions& options) {
  const auto start = Clock::now();
  WorkspaceOptions exporting;
  exporting.output = options.output;
  exporting.level = options.level;
  exporting.threads = options.threads;
  exporting.overwrite = options.overwrite;
  exporting.dry_run = options.dry_run;
  std::unique_ptr<Progress> bar;
  exporting.progress = bar_function(bar, "converting");
  const WorkspaceReport report = export_workspace(open_model(options.model), exporting);
  if (bar) bar->finish();
  if (options.json) {
    std::printf("%s\n", to_json(options, report, seconds_since(start)).dump(2).c_str());
  } else {
    print_text(options, report, seconds_since(start));
  }
  return 0;
}

int verify_workspace(const std::string& dir, int threads, bool json) {
  const auto start = Clock::now();
  const auto workspace = std::dynamic_pointer_cast<const WorkspaceFiles>(open_model(dir));
  if (!workspace) {
    throw Error(
        ErrorCode::invalid_argument,
        "--verify: " + (dir.empty() ? "the embedded model" : dir) + " is not a workspace, so it has no checksums",
        "make one: bittern convert MODEL -o DIR");
  }
  std::unique_ptr<Progress> bar;
  const std::vector<std::string> wrong = workspace->verify(threads, bar_function(bar, "verifying"));
  if (bar) bar->finish();
  const std::int64_t bytes = workspace->manifest().file_bytes;
  if (json) {
    const OrderedJson report = {
        {"workspace", dir}, {"bytes", bytes}, {"wrong", wrong}, {"seconds", seconds_since(start)}};
    std::printf("%s\n", report.dump(2).c_str());
  }
  if (!wrong.empty()) {
    throw Error(ErrorCode::invalid_checkpoint, dir + ": not what was written: " + join(wrong, ", "),
                "make it anew: bittern convert " + workspace->manifest().source + " -o " + dir + " --overwrite");
  }
  if (!json) {
    std::printf("%s: %zu tensors (%s) and the files beside them are as they were written (%s)\n", dir.c_str(),
                workspace->manifest().sha256.size(), size(bytes).c_str(), human_seconds(seconds_since(start)).c_str());
  }
  return 0;
}

}  // namespace bittern::cli
