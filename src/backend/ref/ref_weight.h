// RefWeight: a linear weight or table as plain f32 (out, in).
#pragma once

#include "backend/backend.h"

namespace bittern {

class RefWeight final : public PackedWeight {
 public:
  explicit RefWeight(const Weight& weight)
      : PackedWeight(weight.format, weight.out, weight.in), values_(to_f32(weight)) {}

  std::int64_t bytes() const override { return values_.bytes(); }
  const float* row(std::int64_t i) const { return values_.data.row<float>(i); }

 private:
  Weight values_;
};

}  // namespace bittern
