// The checkpoint reader of quant_method "fp8" (DeepSeek, Qwen, vLLM): linears stored in e4m3 with weight_scale_inv or
// weight_scale, per tensor, per output or per block. Activations are not rounded to fp8, as on hardware without it.
#pragma once

#include <memory>

#include "tensor/checkpoint.h"

namespace bittern {

/// Error(unsupported) naming the key for an element format other than e4m3 or an unknown activation_scheme;
/// Error(invalid_checkpoint) for a value of the wrong type.
std::unique_ptr<Checkpoint> open_fp8_checkpoint(std::unique_ptr<Checkpoint> plain, const Json& quantization_config);

}  // namespace bittern
