// The leaves of a model: Linear, RmsNorm and Embedding. Each knows its shape and its packed parameters and calls one
// backend operation; loading is done by a Visitor (models/load.cpp), not here.
#pragma once

#include <memory>
#include <vector>

#include "backend/backend.h"
#include "nn/ctx.h"

namespace bittern::nn {

class Linear {
 public:
  Linear(std::int64_t in, std::int64_t out, bool bias) : in_(in), out_(out), has_bias_(bias) {}

  std::int64_t in() const { return in_; }
  std::int64_t out() const { return out_; }
  bool has_bias() const { return has_bias_; }

  /// Order in which the checkpoint's rows are taken, for fused layouts that interleave q, k and v; empty: as stored.
  const std::vector<std::int64_t>& row_order() const { return row_order_; }
  void set_row_order(std::vector<std::int64_t> order) { row_order_ = std::move(order); }

  void bind(std::unique_ptr<PackedWeight> weight, std::unique_ptr<DeviceBuffer> bias);
  /// Swaps the weight and keeps the bias: for trying candidates.
  std::unique_ptr<PackedWeight> exchange(std::unique_ptr<PackedWeight> weight);
  const PackedWeight* packed() const { return weight_.get(); }
  /// Bytes resident, 0 before bind.
  std::int64_t bytes() const;

  /// out (tokens, out()) = x (tokens, in()) . W^T + b; out may be a column slice.
  void forward(Ctx& ctx, Tensor out, Tensor x) const;

 private:
  std::int64_t in_, out_;
  bool has_bias_;
  std::vector<std::int64_t> row_order_;
  std::unique_ptr<PackedWeight> weight_;
  std::unique_ptr<DeviceBuffer> bias_;
};

/// Root mean square normalization (Zhang and Sennrich, 2019).
class RmsNorm {
 public:
  /// `offset` is added to the stored weight (Gemma stores w of 1 + w).
  RmsNorm(std::int64_t width, double eps, float offset = 0)
      : width_(width), eps_(static_cast<float>(eps)), offset_(offset) {}

  std::int64_t width() const { return width_; }
  float offset() const { return offset_; }
  float eps() const { return eps_; }
  void bind(std::unique_ptr<DeviceBuffer> weight) { weight_ = std::move(weight); }
  std::int64_t bytes() const { return weight_ ? weight_->bytes() : 0; }
  const DeviceBuffer& weight() const { return *weight_; }

  /// Normalizes the last dimension in place and returns x.
  Tensor forward_in_place(Ctx& ctx, Tensor x) const;

 private:
  std::int64_t width_;
  float eps_;
  float offset_;
  std::unique_ptr<DeviceBuffer> weight_;
};

class Embedding {
 public:
  /// `tied`: the table also serves as the output head.
  Embedding(std::int64_t vocab, std::int64_t width, bool tied) : vocab_(vocab), width_(width), tied_(tied) {}

  std::int64_t vocab() const { return vocab_; }
  std::int64_t width() const { return width_; }
  bool tied() const { return tied_; }
  void bind(std::unique_ptr<PackedWeight> table) { table_ = std::move(table); }
  std::int64_t bytes() const { return table_ ? table_->bytes() : 0; }
  const PackedWeight& table() const { return *table_; }
  const PackedWeight* packed() const { return table_.get(); }

  /// A fresh (tokens, width) activation of the batch's tokens, times `scale`.
  Tensor forward(Ctx& ctx, float scale) const;

 private:
  std::int64_t vocab_, width_;
  bool tied_;
  std::unique_ptr<PackedWeight> table_;
};

}  // namespace bittern::nn
