// Loading for the verbs that generate.
#include "model_loader.h"

#include <bittern/error.h>

#include <fstream>
#include <iterator>

#include "base/progress.h"
#include "model_source.h"

namespace bittern::cli {

std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  if (!file) throw Error(ErrorCode::io, "cannot read " + path);
  return text;
}

std::unique_ptr<server::LoadedModel> load(const RunOptions& options) {
  server::LoadedModelOptions load_options;
  load_options.backend = options.backend;
  load_options.device = options.device;
  load_options.engine = options.engine_options();
  load_options.kv_params = options.kv_params;
  if (!options.chat_template.empty()) load_options.chat_template = read_text(options.chat_template);
  std::unique_ptr<Progress> progress;
  std::int64_t shown = 0;
  load_options.load.progress = [&](std::int64_t done, std::int64_t total) {
    if (!progress)
      progress = std::make_unique<Progress>("loading", static_cast<std::uint64_t>(total), Progress::Unit::bytes);
    progress->advance(static_cast<std::uint64_t>(done - shown));
    shown = done;
  };
  auto model = std::make_unique<server::LoadedModel>(open_model(options.model), load_options);
  if (progress) progress->finish();
  return model;
}

}  // namespace bittern::cli
