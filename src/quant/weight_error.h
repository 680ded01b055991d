// WeightError: how far the decoded codes of a linear are from its weights, as sums that add up over rows and linears.
// It compares numbers alone; what the difference does to the model's answers is measured in quant/quality.h.
#pragma once

#include "base/json.h"
#include "base/thread_pool.h"
#include "tensor/weight.h"

namespace bittern::quant {

struct WeightError {
  double difference = 0;  // sum (w - w')^2
  double energy = 0;      // sum w^2
  double decoded = 0;     // sum w'^2
  double product = 0;     // sum w w'
  double max_abs = 0;     // max |w - w'|

  WeightError& operator+=(const WeightError& other);
  /// difference / energy; 0 for weights that are all zero and stayed so.
  double nmse() const;
  /// Cosine of the angle between w and w' as vectors; 1 when both are zero.
  double cosine() const;
};

/// The sums, exactly; and back.
Json to_json(const WeightError& error);
WeightError weight_error_from_json(const Json& json);

/// `original` is dense f32, `quantized` of any format and the same shape. The result does not depend on the threads.
WeightError weight_error(const Weight& original, const Weight& quantized, ThreadPool& pool);

}  // namespace bittern::quant
