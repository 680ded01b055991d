// Where the output goes: whether it may go there, whether it fits, and what interrupted runs left behind. The writing
// itself is base/atomic_file.h and tensor/safetensors.h.
#pragma once

#include <bittern/quantize.h>

namespace bittern::quant {

/// Checks `options.output` (nothing to do when it is empty, as in a dry run without one) and fills in what the plan
/// says about the disk. Error(invalid_argument): the output is or touches the source, exists, or is not a checkpoint
/// that may be overwritten. Error(io): the disk has too little room.
void check_output(QuantizePlan& plan, const ModelFiles& files, const QuantizeOptions& options);

}  // namespace bittern::quant
