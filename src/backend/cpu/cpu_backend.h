// CpuBackend: the operations of the seam over the kernels of one instruction set and a pool of threads.
// Weights are packed by weight.h, linear chooses among kernels in linear.h, the KV cache is kv_pool.h and attention.h;
// what is here is checking of shapes, splitting of rows among threads, and memory.
// Operations are called from one thread at a time; they share scratch memory.
#pragma once

#include "backend/backend.h"
#include "backend/cpu/attention.h"
#include "backend/cpu/isa.h"
#include "backend/cpu/linear.h"
#include "base/thread_pool.h"

namespace bittern::cpu {

class CpuBackend final : public Backend {
 public:
  /// Errors of choose_isa, LinearRunner and ThreadPool pass through.
  explicit CpuBackend(const BackendOptions& options);

  std::string_view name() const override { return "cpu"; }
  std::string description() const override;
  std::vector<KernelChoice> kernel_choices() const override;

  std::unique_ptr<DeviceBuffer> allocate(std::int64_t bytes) override;
  void copy_to_host(void* host, const void* device, std::int64_t bytes) override;
  void copy_to_device(void* device, const void* host, std::int64_t bytes) override;

  std::unique_ptr<PackedWeight> prepare(const Weight& weight) override;
  std::unique_ptr<PackedWeight> prepare_table(const Weight& weight, bool also_linear) override;
  std::unique_ptr<DeviceBuffer> prepare_vector(const Weight& weight, float offset) override;

  PackingLayout packing_layout() const override { return CpuWeight::layout(); }
  std::optional<SavedPacking> save_packing(const PackedWeight& weight) const override {
    return cpu_weight(weight).save();
  }
  std::unique_ptr<PackedWeight> adopt_packing(const SavedPacking& saved, bool for_linear) override;

  bool supports(const KvSpec& spec) const override;
  std::int64_t kv_block_bytes(const KvSpec& spec) const override;
  std::unique_ptr<KvPool> make_kv_pool(const KvSpec& spec, std::int64_t blocks) override;

  void embed(Tensor out, const PackedWeight& table, std::span<const std::int32_t> ids, float scale) override;
  void linear(Tensor out, Tensor x, const PackedWeight& w, const DeviceBuffer* bias) override;
  void rms_norm(Tensor out, Tensor x, const DeviceBuffer& weight, float eps) override;
  void add_rms_norm(Tensor out, Tensor residual, Tensor x, const DeviceBuffer& weight, float eps) override;
  void add(Tensor x, Tensor y) override;
  void gated_activation(Tensor out, Tensor gate, Tensor up, Activation activation) override;
  void softcap(Tensor x, float cap) override;
  void scale(Tensor x, float factor) override;
  void gather_rows(Tensor out, Tensor x, std::span<const std::int32_t> rows) override;
  void rope_store(const RopeStoreArgs& args, const BatchView& batch, KvPool& pool) override;
  void attention(const AttentionArgs& args, const BatchView& batch, const KvPool& pool) override;
  void read_kv(const KvPool& pool, int layer, std::span<const std::int32_t> blocks, std::int64_t tokens, float* k,
               float* v) const override;

 private:
  void run_rows(RowFn kernel, const RowArgs& all);

  IsaLevel isa_;
  const KernelTable& table_;
  ThreadPool pool_;
  LinearRunner linear_;
  AttentionRunner attention_;
};

}  // namespace bittern::cpu
