// Random weights: a model of a given configuration whose weights are made up in memory, for timing a published
// architecture without its checkpoint. Speed depends on shapes and formats, not on what the numbers say; the numbers
// are the same in every run, and small enough for activations to stay finite. Nothing sensible comes out of such a
// model.
#pragma once

#include <memory>
#include <string>

#include "models/model.h"
#include "tensor/weight.h"

namespace bittern {

struct RandomWeights {
  Format linears = Format::int4(128);         // every linear but the output head
  Format head = Format::dense(DType::bf16);   // the output head, and with it a tied embedding
  Format table = Format::dense(DType::bf16);  // an embedding of its own
};

/// A format by the name that quantization schemes have: f32, f16, bf16, w4a16, w8a16 with groups of `group_size`
/// inputs, w8a8 with one scale per output. Error(invalid_argument) lists the names.
Format parse_weight_format(const std::string& name, std::int64_t group_size);

/// Values of mean 0 and standard deviation 1 / sqrt(in), a function of format and shape alone. A format whose groups
/// span the row (group_size 0) gets one group per row.
Weight random_weight(std::string name, Format format, std::int64_t out, std::int64_t in);

/// The whole model, packed weight after weight, so that one canonical weight is held beside the packed ones at a time.
std::unique_ptr<Model> random_model(const ModelConfig& config, Backend& backend, const RandomWeights& weights);

}  // namespace bittern
