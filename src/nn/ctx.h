// Ctx: everything one forward pass needs, passed explicitly: device, step memory, the batch, the KV pool, the rotary
// tables of this step, and an optional probe. No globals, no thread-locals.
#pragma once

#include "backend/arena.h"
#include "backend/backend.h"

namespace bittern::nn {

class Probe;

struct Ctx {
  Backend& backend;
  Arena& arena;
  const BatchView& batch;
  KvPool& kv;
  Tensor rope_cos{};  // f32 (tokens, rotary_dim / 2), filled once per step by Rope
  Tensor rope_sin{};
  Tensor states{};  // (tokens, hidden) after the final norm, left by the model for whoever wants more than logits
  Probe* probe = nullptr;
  int first_layer = 0;  // layer whose K and V are slot 0 of `kv`: a layer-wise pass keeps a pool of one layer

  /// A fresh activation (tokens of this step, width).
  Tensor activation(std::int64_t width) { return arena.take(backend.activation_dtype(), batch.tokens, width); }
};

}  // namespace bittern::nn
