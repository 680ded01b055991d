// The checkpoint reader of quant_method "awq": linears stored as qweight, qzeros and scales become canonical int4
// weights, everything else is read as it lies. The bits themselves are tensor/awq.h.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tensor/checkpoint.h"

namespace bittern {

/// "quantization_config" of an AWQ checkpoint.
struct AwqConfig {
  std::int64_t group_size = 128;                    // -1: all inputs of a linear form one group
  std::vector<std::string> modules_to_not_convert;  // a linear whose name contains one of these is not quantized
};

/// Error(unsupported) naming the key for a version other than "gemm", bits other than 4, or zero_point false;
/// Error(invalid_checkpoint) for a value of the wrong type.
AwqConfig parse_awq_config(const Json& quantization_config);

std::unique_ptr<Checkpoint> open_awq_checkpoint(std::unique_ptr<Checkpoint> plain, AwqConfig config);

}  // namespace bittern
