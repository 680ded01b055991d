// The operations of the CPU backend that work row by row, and linear's entry. Each splits its rows among threads when
// there is enough to do; how rows are split never changes a result.
#include <algorithm>
#include <cstring>

#include "backend/cpu/cpu_backend.h"
#include "base/check.h"

namespace bittern::cpu {
namespace {

constexpr Index kParallelFloats = 1 << 14;  // below this, waking a thread costs more than it saves

const float* floats(const DeviceBuffer& buffer) { return static_cast<const float*>(buffer.data()); }

void check_f32(const Tensor& t) {
  BITTERN_CHECK(t.dtype == DType::f32 && (t.rank == 2 || t.rank == 3), "found {}", t.describe());
}

void check_same(const Tensor& a, const Tensor& b) {
  check_f32(a);
  check_f32(b);
  BITTERN_CHECK(a.rank == b.rank && a.shape == b.shape, "{} and {}", a.describe(), b.describe());
}

/// Rank 3 is taken apart into its rank-2 slices along the second dimension (heads), rows being tokens.
Index slices(const Tensor& t) { return t.rank == 3 ? t.shape[1] : 1; }
float* slice(const Tensor& t, Index i) { return t.as<float>() + (t.rank == 3 ? i * t.stride[1] : 0); }

}  // namespace

void CpuBackend::run_rows(RowFn kernel, const RowArgs& all) {
  if (all.rows * all.width < kParallelFloats || all.rows == 1) return kernel(&all);
  pool_.parallel_ranges(all.rows, 1, [&](Index begin, Index end, int) {
    RowArgs part = all;
    part.rows = end - begin;
    part.out += begin * all.out_stride;
    if (part.a != nullptr) part.a += begin * all.a_stride;
    if (part.b != nullptr) part.b += begin * all.b_stride;
    kernel(&part);
  });
}

void CpuBackend::embed(Tensor out, const PackedWeight& table, std::span<const std::int32_t> ids, float scale) {
  const CpuWeight& rows = cpu_weight(table);
  check_f32(out);
  BITTERN_CHECK(out.rows() == static_cast<Index>(ids.size()) && out.cols() == table.in());
  const auto tokens = [&](Index begin, Index end, int) {
    for (Index t = begin; t < end; ++t) {
      float* row = out.row<float>(t);
      rows.decode_row(ids[static_cast<std::size_t>(t)], row);
      for (Index i = 0; i < out.cols() && scale != 1.0f; ++i) row[i] *= scale;
    }
  };
  if (out.size() < kParallelFloats) return tokens(0, out.rows(), 0);
  pool_.parallel_ranges(out.rows(), 1, tokens);
}

void CpuBackend::linear(Tensor out, Tensor x, const PackedWeight& w, const DeviceBuffer* bias) {
  check_f32(out);
  check_f32(x);
  BITTERN_CHECK(x.rank == 2 && out.rank == 2 && x.cols() == w.in() && out.cols() == w.out() && x.rows() == out.rows(),
                "{} to {} by ({}, {})", x.describe(), out.describe(), w.out(), w.in());
  BITTERN_CHECK(bias == nullptr || bias->bytes() >= w.out() * static_cast<Index>(sizeof(float)));
  linear_.run({&cpu_weight(w), x.as<float>(), x.stride[0], x.rows(), out.as<float>(), out.stride[0],
               bias == nullptr ? nullptr : floats(*bias)});
}

void CpuBackend::rms_norm(Tensor out, Tensor x, const DeviceBuffer& weight, float eps) {
  check_same(out, x);
  BITTERN_CHECK(weight.bytes() == x.cols() * static_cast<Index>(sizeof(float)));
  for (Index s = 0; s < slices(x); ++s) {
    run_rows(table_.element.rms_norm, {slice(out, s), out.stride[0], slice(x, s), x.stride[0], nullptr, 0,
                                       floats(weight), x.rows(), x.cols(), eps});
  }
}

void CpuBackend::add_rms_norm(Tensor out, Tensor residual, Tensor x, const DeviceBuffer& weight, float eps) {
  check_same(out, x);
  check_same(out, residual);
  BITTERN_CHECK(x.rank == 2 && weight.bytes() == x.cols() * static_cast<Index>(sizeof(float)));
  run_rows(table_.element.add_rms_norm, {out.as<float>(), out.stride[0], residual.as<float>(), residual.stride[0],
                                         x.as<float>(), x.stride[0], floats(weight), x.rows(), x.cols(), eps});
}

void CpuBackend::add(Tensor x, Tensor y) {
  check_same(x, y);
  for (Index s = 0; s < slices(x); ++s) {
    run_rows(table_.element.add,
             {slice(x, s), x.stride[0], slice(y, s), y.stride[0], nullptr, 0, nullptr, x.rows(), x.cols(), 0});
  }
}

void CpuBackend::gated_activation(Tensor out, Tensor gate, Tensor up, Activation activation) {
  check_same(out, gate);
  check_same(out, up);
  for (Index s = 0; s < slices(out); ++s) {
    run_rows(table_.element.gated[static_cast<int>(activation)],
             {slice(out, s), out.stride[0], slice(gate, s), gate.stride[0], slice(up, s), up.stride[0], nullptr,
              out.rows(), out.cols(), 0});
  }
}

void CpuBackend::softcap(Tensor x, float cap) {
  check_f32(x);
  for (Index s = 0; s < slices(x); ++s) {
    run_rows(table_.element.softcap,
             {slice(x, s), x.stride[0], nullptr, 0, nullptr, 0, nullptr, x.rows(), x.cols(), cap});
  }
}

void CpuBackend::scale(Tensor x, float factor) {
  check_f32(x);
  for (Index s = 0; s < slices(x); ++s) {
    run_rows(table_.element.scale,
             {slice(x, s), x.stride[0], nullptr, 0, nullptr, 0, nullptr, x.rows(), x.cols(), factor});
  }
}

void CpuBackend::gather_rows(Tensor out, Tensor x, std::span<const std::int32_t> rows) {
  check_f32(out);
  check_f32(x);
  BITTERN_CHECK(out.rows() == static_cast<Index>(rows.size()) && out.cols() == x.cols());
  for (Index r = 0; r < out.rows(); ++r) {
    const std::int32_t from = rows[static_cast<std::size_t>(r)];
    BITTERN_CHECK(from >= 0 && from < x.rows(), "row {} of {}", from, x.rows());
    std::memcpy(out.row<float>(r), x.row<float>(from), static_cast<std::size_t>(x.cols()) * sizeof(float));
  }
}

}  // namespace bittern::cpu
