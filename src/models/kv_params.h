// The static parameters of an int8 KV cache as a file: read, checked against the model, and expanded for the backend.
// `bittern kv-params` writes it (quant/kv_params.h); the formula is in docs/calibration.md.
#pragma once

#include <memory>
#include <string>

#include "backend/kv_params.h"
#include "models/config.h"
#include "tensor/model_files.h"

namespace bittern {

/// What the file is called in a model's directory.
inline constexpr const char* kKvParamsFile = "kv_params.safetensors";

/// For a KV cache of format `kv_cache` (the name of --kv-cache): the parameters in `path`, or, when that is empty, in
/// the model's own kv_params.safetensors; null for every format but int8-static. Errors: not_found says which command
/// makes the file; invalid_argument when `path` is given for another format; invalid_checkpoint names the tensor that
/// is missing, of another shape or type, or holds what is no scale.
std::shared_ptr<const KvStaticParams> load_kv_params(const std::string& kv_cache, const std::string& path,
                                                     const ModelFiles& files, const ModelConfig& config);

}  // namespace bittern
