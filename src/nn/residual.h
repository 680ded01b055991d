// Residual: the stream that flows through the layers of a pre-norm transformer. A branch's output is kept pending until
// the next norm, so that the addition and the normalization are one operation, and the memory of a branch is given back
// to the arena as soon as it has been added.
#pragma once

#include "nn/ctx.h"
#include "nn/linear.h"

namespace bittern::nn {

class Residual {
 public:
  Residual(Ctx& ctx, Tensor hidden)
      : ctx_(ctx), hidden_(hidden), normed_(ctx.activation(hidden.cols())), base_(ctx.arena.mark()) {}

  /// Adds what is pending and returns norm(stream), valid until the next call. Releases everything the last branch
  /// took.
  Tensor norm(const RmsNorm& norm);
  /// `branch` is the output of a block; it joins the stream at the next norm().
  void add(Tensor branch) { pending_ = branch; }

 private:
  Ctx& ctx_;
  Tensor hidden_;
  Tensor normed_;
  std::int64_t base_;
  Tensor pending_;  // rank 0: none
};

}  // namespace bittern::nn
