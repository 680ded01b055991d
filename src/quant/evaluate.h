// The evaluation at the end of a quantization: perplexity and KL divergence of the written model against the original
// on text. Both models run layer by layer over all windows at once, hidden states kept, one after the other, so memory
// holds one layer and never a model; what is scored and how is decided by quality.h alone.
#pragma once

#include <bittern/quantize.h>

#include <filesystem>
#include <functional>
#include <memory>

#include "quant/job.h"
#include "tensor/model_files.h"

namespace bittern::quant {

/// Fills in the plan's evaluation and raises its peak where the evaluation needs more than quantizing. Does nothing
/// without text. Error(invalid_argument): too little text for one window, an id outside the vocabulary, or another
/// number out of range.
void plan_evaluation(Job& job, const ModelConfig& config, const Evaluation& evaluation);

/// Compares the checkpoint in the directory plan.output with `original`, on what the plan says. The original's logits
/// are kept in an unnamed file in the folder of the output. `progress` gets steps done and steps there are.
/// Errors: those of LayerwiseModel and kl_divergence(); io when the disk is full.
QualityReport evaluate_output(const std::shared_ptr<const ModelFiles>& original, const QuantizePlan& plan,
                              const Evaluation& evaluation, int threads,
                              const std::function<void(std::int64_t done, std::int64_t total)>& progress);

}  // namespace bittern::quant
