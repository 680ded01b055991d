// Where a model comes from: MODEL on the command line becomes ModelFiles. A checkpoint's directory, a workspace, a GGUF
// file, an id in the Hugging Face cache (never downloaded here), or nothing for the model linked into the program.
#pragma once

#include <memory>
#include <string>

#include "tensor/model_files.h"

namespace bittern::cli {

/// Error(not_found) says where it looked; Error(unsupported) names file types that cannot be run yet.
std::shared_ptr<const ModelFiles> open_model(const std::string& model);
/// The model linked into the program.
std::shared_ptr<const ModelFiles> embedded_model();

}  // namespace bittern::cli
