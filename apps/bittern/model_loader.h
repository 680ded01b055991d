// Loads the MODEL of the command line for the verbs that generate text, with a progress bar.
#pragma once

#include <memory>

#include "options.h"
#include "server/loaded_model.h"

namespace bittern::cli {

std::unique_ptr<server::LoadedModel> load(const RunOptions& options);
/// The whole of a file as text. Error(io) names it.
std::string read_text(const std::string& path);

}  // namespace bittern::cli
