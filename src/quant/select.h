// Which linears of a model are quantized: those of its decoder layers, less what --skip names. They are found by
// visiting the module tree, so no architecture has a table of names here.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/model.h"

namespace bittern::quant {

struct Scheme;

/// A linear to quantize, by its name in the checkpoint.
struct LinearTask {
  std::string name;  // "model.layers.0.mlp.up_proj"
  int layer = 0;
  std::int64_t out = 0, in = 0;
  const Scheme* scheme = nullptr;  // how it is stored; set by the job
};

struct Selection {
  std::vector<LinearTask> linears;  // in the order of the model
  std::vector<std::string> kept;    // output head, embeddings, and what was skipped
};

/// `skip` as in QuantizeOptions. Errors: invalid_argument for a bad expression, for a pattern that matches no module,
/// and when nothing is left to quantize.
Selection select_linears(Model& model, const std::vector<std::string>& skip);

/// The decoder layer a tensor or module belongs to: the first component of its name that is a number; -1: none.
int layer_of(std::string_view name);

}  // namespace bittern::quant
