// Where a model comes from: MODEL on the command line becomes ModelFiles. A checkpoint's directory, a workspace, a GGUF
// file, an id in the Hugging Face cache (never downloaded here), or nothing for the model linked into the program.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "tensor/model_files.h"

namespace bittern::cli {

/// Error(not_found) says where it looked; Error(unsupported) names file types that cannot be run yet.
std::shared_ptr<const ModelFiles> open_model(const std::string& model);
/// The model linked into the program.
std::shared_ptr<const ModelFiles> embedded_model();
bool is_embedded(const ModelFiles& files);
/// Tasks that the embedded model is judged on (JSON lines), of its own kind, which its training did not see.
inline constexpr const char* kEmbeddedHeldoutTasks = "embedded:mini, tasks/heldout.jsonl";
std::string_view embedded_heldout_tasks();

}  // namespace bittern::cli
