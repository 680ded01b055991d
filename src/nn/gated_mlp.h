// GatedMlp: down(act(gate(x)) * up(x)) (Shazeer, "GLU Variants Improve Transformer", 2020), with gate and up apart or
// fused into one linear. Mixtures of experts are a block of their own.
#pragma once

#include <string>
#include <vector>

#include "nn/linear.h"
#include "nn/module.h"

namespace bittern::nn {

struct GatedMlpOptions {
  int hidden = 0;
  int ffn = 0;
  Activation activation = Activation::silu;
  bool bias = false;
  std::string gate_name = "gate_proj";
  std::string up_name = "up_proj";
  std::string down_name = "down_proj";
  std::string fused_name;  // non-empty: one linear of this name holds [gate | up]
};

class GatedMlp {
 public:
  explicit GatedMlp(GatedMlpOptions options);

  void visit(Scope& scope);
  /// (tokens, hidden) from the normalized stream; the result lives in the arena until the stream's next norm.
  Tensor forward(Ctx& ctx, Tensor x) const;

 private:
  /// Row of the linear that makes the factor `up`, for every channel of what goes into down.
  std::vector<std::int64_t> up_rows() const;

  GatedMlpOptions options_;
  std::vector<Linear> gate_up_;  // {fused} or {gate, up}
  Linear down_;
};

}  // namespace bittern::nn
