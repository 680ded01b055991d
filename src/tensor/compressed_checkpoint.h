// The checkpoint reader of quant_method "compressed-tensors": linears become canonical grouped weights as their config
// group says. The configuration is tensor/compressed_config.h, the bits are tensor/compressed_tensors.h.
#pragma once

#include <memory>

#include "tensor/checkpoint.h"

namespace bittern {

/// Errors as CompressedConfig. A linear that a group targets and that is not stored so, or the reverse, is
/// Error(invalid_checkpoint) when it is read.
std::unique_ptr<Checkpoint> open_compressed_checkpoint(std::unique_ptr<Checkpoint> plain,
                                                       const Json& quantization_config);

}  // namespace bittern
