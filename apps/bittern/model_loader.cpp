// Loading for the verbs that generate.
#include "model_loader.h"

#include <bittern/error.h>

#include <cstdio>
#include <fstream>
#include <iterator>
#include <type_traits>

#include "base/progress.h"
#include "model_source.h"
#include "tensor/run_settings.h"

namespace bittern::cli {

std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  if (!file) throw Error(ErrorCode::io, "cannot read " + path);
  return text;
}

RunOptions with_run_settings(RunOptions options, const ModelFiles& files) {
  const RunSettings* settings = files.run_settings();
  if (settings == nullptr) return options;
  const EngineOptions usual;
  const auto take = [](auto& option, const auto& unset, const auto& setting) {
    if (setting && option == unset) option = static_cast<std::decay_t<decltype(option)>>(*setting);
  };
  EngineOptions& engine = options.engine;
  take(engine.context, usual.context, settings->context);
  take(engine.max_sequences, usual.max_sequences, settings->max_sequences);
  take(engine.max_step_tokens, usual.max_step_tokens, settings->max_step_tokens);
  take(engine.block_tokens, usual.block_tokens, settings->block_tokens);
  if (options.kv_cache_memory == "auto") {
    take(engine.kv_cache_share, usual.kv_cache_share, settings->kv_cache_share);
    take(engine.kv_cache_blocks, usual.kv_cache_blocks, settings->kv_cache_blocks);
  }
  if (options.kv_cache != "auto" || !settings->kv_cache) return options;
  options.kv_cache = *settings->kv_cache;
  for (const std::string& notice : settings->notices) std::fprintf(stderr, "bittern: %s\n", notice.c_str());
  return options;
}

server::LoadedModelOptions loaded_model_options(const RunOptions& options) {
  server::LoadedModelOptions load_options;
  load_options.backend = options.backend;
  load_options.device = options.device;
  load_options.engine = options.engine_options();
  load_options.kv_params = options.kv_params;
  if (!options.chat_template.empty()) load_options.chat_template = read_text(options.chat_template);
  load_options.load.notice = [](const std::string& message) { std::fprintf(stderr, "bittern: %s\n", message.c_str()); };
  return load_options;
}

namespace {

std::unique_ptr<server::LoadedModel> load(const std::shared_ptr<const ModelFiles>& files, const RunOptions& options) {
  server::LoadedModelOptions load_options = loaded_model_options(options);
  std::unique_ptr<Progress> progress;
  std::int64_t shown = 0;
  load_options.load.progress = [&](std::int64_t done, std::int64_t total) {
    if (!progress)
      progress = std::make_unique<Progress>("loading", static_cast<std::uint64_t>(total), Progress::Unit::bytes);
    progress->advance(static_cast<std::uint64_t>(done - shown));
    shown = done;
  };
  auto model = std::make_unique<server::LoadedModel>(files, load_options);
  if (progress) progress->finish();
  return model;
}

}  // namespace

std::unique_ptr<server::LoadedModel> load(const RunOptions& options) {
  const std::shared_ptr<const ModelFiles> files = open_model(options.model);
  return load(files, with_run_settings(options, *files));
}

std::unique_ptr<server::LoadedModel> load_as_asked(const RunOptions& options) {
  return load(open_model(options.model), options);
}

}  // namespace bittern::cli
