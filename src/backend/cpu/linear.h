// Linear on the CPU: the list of kernels, best first, and the choice among them. A kernel is a row {name, supports,
// rows it is best for, run}; the last row decodes weight rows and multiplies, so every packing works everywhere.
// The f32 kernels (direct, panel) give the same bits whatever the batch; what does not is refused when deterministic.
#pragma once

#include <string>
#include <vector>

#include "backend/cpu/isa.h"
#include "backend/cpu/scratch.h"
#include "backend/cpu/weight.h"

namespace bittern::cpu {

/// x (rows, in) . w^T + bias -> out (rows, w.out()).
struct LinearCall {
  const CpuWeight* w;
  const float* x;
  Index x_stride;
  Index rows;
  float* out;
  Index out_stride;
  const float* bias;  // (w.out()) or null
};

class LinearRunner {
 public:
  /// `pin` is "" or "gemm=NAME": the named kernel runs whatever it supports. Error(invalid_argument) lists the names.
  /// `compute` is "", "auto", "f32", "bf16" or "int8" (BackendOptions::compute). Error(unsupported) when it needs a
  /// higher level.
  LinearRunner(IsaLevel isa, bool deterministic, const std::string& pin, const std::string& compute, ThreadPool& pool);

  void run(const LinearCall& call);
  /// One entry per kind of weight and range of rows: {"linear int4", "direct_avx512 (1-8 rows), panel_avx512"}.
  std::vector<KernelChoice> choices() const;

 private:
  struct Kernel {
    std::string name;
    bool (*supports)(const Packing& packing);
    bool exact;                // a row's bits do not depend on the other rows
    bool rounds;               // takes x as it is and rounds it to 8 bits itself
    Index min_rows, max_rows;  // where it is the best choice; a pin ignores this
    void (LinearRunner::*run)(const LinearCall&);
  };

  const Kernel& choose(const Packing& packing, Index rows) const;
  LinearArgs arguments(const LinearCall& call, bool sums = true);
  LinearCall round_x(const LinearCall& call);
  void round_rows(const float* x, Index x_stride, Index rows, Index inputs, Index stride);
  void run_w8a8(const LinearCall& call);
  void copy_x(const LinearCall& call, Index stride, float* to);
  const float* padded_x(const LinearCall& call, Index& stride);
  void sum_groups(const LinearCall& call, LinearArgs& args);
  void run_direct(const LinearCall& call);
  void run_panel(const LinearCall& call);
  void run_bf16dot(const LinearCall& call);
  void run_int8dot(const LinearCall& call);
  LinearArgs int8_arguments(const LinearCall& call);
  void add_optional_kernels(IsaLevel isa, const std::string& compute);
  void pin_kernel(const std::string& pin);
  void share_panels(LinearArgs& args, LinearFn kernel, Index unit);
  void run_dequantize(const LinearCall& call);

  const KernelTable& table_;
  const W8A8Table& w8a8_;
  bool deterministic_;
  bool round_activations_;  // of formats made for 8-bit activations
  ThreadPool& pool_;
  std::vector<Kernel> kernels_;
  const Kernel* pinned_ = nullptr;
  Scratch x_, x_bf16_, x_int8_, x_scales_, x_rounded_, sums_, panels_;
};

}  // namespace bittern::cpu
