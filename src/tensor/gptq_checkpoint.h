// The checkpoint reader of quant_method "gptq": linears stored as qweight, qzeros, scales and g_idx become canonical
// grouped weights; which linears are quantized is decided by what is stored. The bits themselves are tensor/gptq.h.
#pragma once

#include <memory>

#include "tensor/checkpoint.h"

namespace bittern {

/// Error(unsupported) naming the key for bits other than 2, 3, 4 or 8, a checkpoint_format other than "gptq" and
/// "gptq_v2", and what else changes the layout; Error(invalid_checkpoint) for a value of the wrong type.
std::unique_ptr<Checkpoint> open_gptq_checkpoint(std::unique_ptr<Checkpoint> plain, const Json& quantization_config);

}  // namespace bittern
