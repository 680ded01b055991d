// Sensitivity: how far the answers of a model move when one of its linears is rounded, measured and not guessed. Each
// linear is rounded alone and what comes of it runs through the rest of the model beside the original, to the logits;
// the KL divergence there is its loss at that many bits. Losses at other bits follow from how much more or less of the
// branch's output the rounding changes, since a divergence grows with the square of a small change.
//
// The model is streamed: one layer's weights and one stream of hidden states are in memory, all streams lie on disk. It
// decides nothing: which bits are worth their size is bit_budget.h.
#pragma once

#include <bittern/quantize.h>

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "quant/scheme.h"
#include "quant/select.h"
#include "tensor/model_files.h"

namespace bittern::quant {

struct LinearSensitivity {
  std::string name;
  int layer = 0;
  int shared_input = 0;        // linears of a layer with the same number take the same activation
  double kl = 0;               // nats per token, of the linear rounded alone as SensitivityOptions::probe says
  std::vector<double> errors;  // squared error of its branch's output, for each of SensitivityOptions::schemes
  double probe_error = 0;      // the same for the probe

  /// The loss expected with schemes[i].
  double loss(std::size_t i) const;
};

struct Sensitivity {
  std::vector<LinearSensitivity> linears;  // in the order of the model
  std::map<std::string, double> kv;        // KL divergence by name of a KV cache's precision
  std::int64_t tokens = 0;
};

struct SensitivityOptions {
  const Scheme* probe = nullptr;
  std::vector<const Scheme*> schemes;
  std::int64_t group_size = 128;
  std::vector<std::string> kv_caches;  // precisions to measure, as the backend has them
  std::int64_t tokens = 0;             // of the calibration to run; 0: by the size of the model
  int threads = 0;
  std::filesystem::path state;  // directory for the streams and the result; a stopped measurement goes on from it
  /// Everything else that the result depends on, to tell another measurement's state.
  Json key;
  std::function<void(int layer, int layers)> progress;  // after each; may be null, may throw to stop
};

/// Errors: those of LayerwiseModel; invalid_argument when the state is of another measurement; invalid_checkpoint for
/// logits or weights that are not finite; io when the disk is full.
Sensitivity measure_sensitivity(const std::shared_ptr<const ModelFiles>& files, std::span<const LinearTask> linears,
                                const Calibration& calibration, const SensitivityOptions& options);

/// Tokens that will be run, of those the calibration has.
std::int64_t sensitivity_tokens(const ModelConfig& config, std::span<const LinearTask> linears,
                                const Calibration& calibration, std::int64_t wanted);
/// Most bytes held at once beside the mapped layer, and bytes of disk.
std::int64_t sensitivity_bytes(const ModelConfig& config, std::span<const LinearTask> layer, std::int64_t tokens);
std::int64_t sensitivity_disk_bytes(const ModelConfig& config, std::size_t streams, std::int64_t tokens);

}  // namespace bittern::quant
