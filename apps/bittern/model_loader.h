// Loads the MODEL of the command line for the verbs that generate text, with a progress bar.
#pragma once

#include <memory>

#include "options.h"
#include "server/loaded_model.h"

namespace bittern::cli {

/// What loads a model with those options. Reads the chat template that they name.
server::LoadedModelOptions loaded_model_options(const RunOptions& options);
std::unique_ptr<server::LoadedModel> load(const RunOptions& options);
/// With the engine exactly as `options` say, whatever a workspace's config.ini asks for.
std::unique_ptr<server::LoadedModel> load_as_asked(const RunOptions& options);
/// The options with what a workspace's config.ini asks for where they are at their defaults. Prints its notices.
RunOptions with_run_settings(RunOptions options, const ModelFiles& files);
/// The whole of a file as text. Error(io) names it.
std::string read_text(const std::string& path);

}  // namespace bittern::cli
