// Job: everything about one quantization that headers alone can tell: which tensors go where, in which order, and what
// that takes. Planning makes it and shows it; the stream in quantize.cpp follows it.
#pragma once

#include <bittern/quantize.h>

#include <map>
#include <memory>
#include <vector>

#include "quant/algorithm.h"
#include "quant/scheme.h"
#include "tensor/checkpoint.h"
#include "tensor/model_files.h"

namespace bittern::quant {

/// One decoder layer: its linears first, then its other tensors (norms, biases, skipped linears) as they are.
struct LayerJob {
  int index = 0;
  std::vector<LinearTask> linears;
  std::vector<TensorEntry> kept;
  std::int64_t source_bytes = 0;
};

struct Job {
  QuantizePlan plan;
  const Algorithm* algorithm = nullptr;
  GptqOptions gptq;
  Json config;                       // config.json of the output
  std::vector<TensorEntry> outside;  // tensors of no layer, as they are
  std::vector<LayerJob> layers;
  std::map<std::string, std::int64_t> source_bytes;  // of each linear's weight, by linear
  std::vector<TensorSpec> outputs;                   // all tensors of the output, in the order they are written
};

/// Schemes of linears by name.
using SchemesByName = std::map<std::string, const Scheme*, std::less<>>;

/// Errors as plan_quantize(). `chosen` are the schemes a budget came to; without, its linears have 4 bits.
Job make_job(const std::shared_ptr<const ModelFiles>& files, const QuantizeOptions& options,
             const SchemesByName* chosen = nullptr);

/// Linears whose schemes a budget may choose: those that no override names.
std::vector<LinearTask> free_linears(const Job& job, const QuantizeOptions& options);
/// SHA-256 of the calibration's token ids.
std::string tokens_sha256(const Calibration& calibration);

/// Names of the files that are copied beside the weights: configuration of generation, tokenizer, templates, licence.
std::vector<std::string> files_to_copy(const ModelFiles& files);

}  // namespace bittern::quant
