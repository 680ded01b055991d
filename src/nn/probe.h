// Probe: what calibration and quantization see of a running model. A null probe costs one branch per call.
// It observes activations where they flow; it never changes them.
#pragma once

#include "tensor/tensor.h"

namespace bittern::nn {

class Linear;

class Probe {
 public:
  virtual ~Probe() = default;
  /// Input of a linear, (tokens, in). Linears that share an input are called with the same x.data in one layer: that is
  /// how scale groups fall out of data flow.
  virtual void linear_input(const Linear& linear, const Tensor& x) = 0;
  /// K after RoPE and V of one layer, (tokens, kv_heads, head_dim) each.
  virtual void kv(int layer, const Tensor& k, const Tensor& v) = 0;
};

}  // namespace bittern::nn
