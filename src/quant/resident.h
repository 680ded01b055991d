// Resident: bytes that the parameters of a model will take at most once a backend has packed them, known before they
// exist. A backend packs rows in runs, so a few rows of zeros of the right format say what all of them will take.
#pragma once

#include <cstdint>
#include <map>
#include <tuple>

#include "backend/backend.h"
#include "quant/job.h"

namespace bittern::quant {

class ResidentSizes {
 public:
  /// `backend` must outlive it.
  explicit ResidentSizes(Backend& backend) : backend_(backend) {}

  /// Of a linear (out, in): PackedWeight::bytes() will say this, or less where scales fit a smaller type.
  std::int64_t linear(const Format& format, std::int64_t out, std::int64_t in);
  /// Of a table that embeds, and with `tied` is the output head as well.
  std::int64_t table(const Format& format, std::int64_t out, std::int64_t in, bool tied);
  /// Of a norm's weight or a bias.
  std::int64_t vector(std::int64_t width);

 private:
  std::int64_t measure(const Format& format, std::int64_t out, std::int64_t in, int use);

  Backend& backend_;
  std::map<std::tuple<std::string, std::int64_t, std::int64_t, int>, std::int64_t> known_;
};

/// The canonical format of a linear under its scheme.
Format format_of(const LinearTask& linear, const Scheme& scheme, std::int64_t group_size);

/// Bytes of everything but the linears of `job`: what weight_bytes() will count beside them, biases included.
std::int64_t resident_beside_linears(const Job& job, Model& model, const Checkpoint& checkpoint, ResidentSizes& sizes);

}  // namespace bittern::quant
