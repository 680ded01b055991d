// Checks of the output directory, made before any work so that an hour of it is never thrown away at the end.
#include "quant/output.h"

#include <bittern/error.h>

#include <algorithm>

#include "base/strings.h"
#include "tensor/model_files.h"

namespace bittern::quant {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void refuse(const fs::path& output, const std::string& reason, std::string hint) {
  throw Error(ErrorCode::invalid_argument, "cannot write to " + output.string() + ": " + reason, std::move(hint));
}

/// Whether `inner` is `outer` or lies in it.
bool contains(const fs::path& outer, const fs::path& inner) {
  const fs::path relative = fs::weakly_canonical(inner).lexically_relative(fs::weakly_canonical(outer));
  return !relative.empty() && *relative.begin() != "..";
}

void refuse_overlap(const fs::path& output, const ModelFiles& files) {
  const fs::path source = files.origin();
  if (!fs::is_directory(source)) return;  // an embedded model has no place on disk
  if (contains(source, output))
    refuse(output, "it lies in the model that is read, " + source.string(), "choose another output");
  if (contains(output, source))
    refuse(output, "it holds the model that is read, " + source.string(), "choose another output");
}

void refuse_existing(const fs::path& output, bool overwrite) {
  if (!fs::exists(output)) return;
  if (!fs::is_directory(output)) refuse(output, "it exists and is not a directory", "choose another output");
  if (fs::is_empty(output)) return;
  if (!overwrite) refuse(output, "it exists and is not empty", "choose another output, or give --overwrite");
  // What is overwritten is deleted, so it had better be what the user takes it for.
  if (!fs::exists(output / "config.json")) {
    refuse(output, "it exists and is not a checkpoint (it has no config.json)", "choose another output");
  }
}

fs::path without_trailing_slash(const fs::path& path) {
  const fs::path normal = fs::absolute(path).lexically_normal();
  return normal.has_filename() ? normal : normal.parent_path();
}

fs::path nearest_existing(fs::path path) {
  while (!fs::exists(path) && path.has_relative_path()) path = path.parent_path();
  return path;
}

/// Runs with calibration hold every finished layer twice at the end: as a part, and in the checkpoint made of the
/// parts. The evaluation comes when the parts are gone.
void check_space(QuantizePlan& plan, const fs::path& output) {
  plan.free_disk_bytes = static_cast<std::int64_t>(fs::space(nearest_existing(output.parent_path())).available);
  const std::int64_t needed =
      plan.output_bytes + std::max(plan.evaluation_disk_bytes, plan.calibration_tokens > 0 ? plan.output_bytes : 0);
  if (needed <= plan.free_disk_bytes) return;
  throw Error(ErrorCode::io,
              "the run takes " + human_bytes(static_cast<std::uint64_t>(needed)) + " of disk, that of " +
                  output.string() + " has " + human_bytes(static_cast<std::uint64_t>(plan.free_disk_bytes)) + " free",
              "make room or choose an output on another disk");
}

/// AtomicDirectory names its temporary directory after the output; one that is still there was interrupted, or is
/// another run at work, which is why it is reported and not removed.
void find_leftovers(QuantizePlan& plan, const fs::path& output) {
  const fs::path folder = output.parent_path();
  if (!fs::is_directory(folder)) return;
  const std::string prefix = output.filename().string() + ".partial-";
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().filename().string().starts_with(prefix)) plan.leftovers.push_back(entry.path());
  }
}

}  // namespace

void check_output(QuantizePlan& plan, const ModelFiles& files, const QuantizeOptions& options) {
  if (options.output.empty()) return;
  const fs::path output = without_trailing_slash(options.output);
  try {
    refuse_overlap(output, files);
    refuse_existing(output, options.overwrite);
    check_space(plan, output);
    find_leftovers(plan, output);
  } catch (const fs::filesystem_error& error) {
    throw Error(ErrorCode::io, "cannot write to " + output.string() + ": " + error.code().message());
  }
}

}  // namespace bittern::quant
