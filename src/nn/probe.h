// Probe: what calibration and quantization see of a running model. A null probe costs one branch per call.
// It observes activations where they flow; it never changes them.
#pragma once

#include <cstdint>
#include <span>

#include "tensor/tensor.h"

namespace bittern::nn {

class Linear;
class RmsNorm;

class Probe {
 public:
  virtual ~Probe() = default;
  /// Input of a linear, (tokens, in). Linears that share an input are called with the same x.data in one layer: that is
  /// how scale groups fall out of data flow.
  virtual void linear_input(const Linear& linear, const Tensor& x) = 0;
  /// K after RoPE and V of one layer, (tokens, kv_heads, head_dim) each.
  virtual void kv(int layer, const Tensor& k, const Tensor& v) = 0;
  /// Where a factor on a channel of an activation can be folded into what made it; called before the linear_input()
  /// that takes `x`, and told apart by x.data. First: x = norm(stream), so channel c scales with weight c of the norm.
  virtual void norm_output(const RmsNorm& norm, const Tensor& x) { static_cast<void>(norm), static_cast<void>(x); }
  /// Second: channel c of x is proportional to row rows[c] of `producer` (v under attention, up under the gate); rows
  /// count as the linear runs, after Linear::row_order. Several channels may share a row.
  virtual void channel_source(const Tensor& x, const Linear& producer, std::span<const std::int64_t> rows) {
    static_cast<void>(x), static_cast<void>(producer), static_cast<void>(rows);
  }
};

}  // namespace bittern::nn
