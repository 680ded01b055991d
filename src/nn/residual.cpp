// Residual: fused addition and normalization.
#include "nn/residual.h"

#include "nn/probe.h"

namespace bittern::nn {

Tensor Residual::norm(const RmsNorm& norm) {
  if (pending_.rank == 0) {
    ctx_.backend.rms_norm(normed_, hidden_, norm.weight(), norm.eps());
  } else {
    ctx_.backend.add_rms_norm(normed_, hidden_, pending_, norm.weight(), norm.eps());
  }
  pending_ = {};
  ctx_.arena.release(base_);
  if (ctx_.probe) ctx_.probe->norm_output(norm, normed_);
  return normed_;
}

}  // namespace bittern::nn
