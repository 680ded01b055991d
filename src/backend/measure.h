// MeasureBackend: stands in for another backend while a forward pass is only measured. Operations do nothing, buffers
// have sizes but no memory, and the answers that decide sizes (element type, KV layout) are those of the real backend.
// With a counting Arena, one pass over it is the memory plan of a step.
#pragma once

#include "backend/backend.h"

namespace bittern {

class MeasureBackend final : public Backend {
 public:
  /// `real` must outlive this.
  explicit MeasureBackend(const Backend& real) : real_(real) {}

  std::string_view name() const override { return real_.name(); }
  std::string description() const override { return "measuring for " + real_.description(); }
  std::vector<KernelChoice> kernel_choices() const override { return real_.kernel_choices(); }
  DType activation_dtype() const override { return real_.activation_dtype(); }
  bool host_memory() const override { return false; }

  std::unique_ptr<DeviceBuffer> allocate(std::int64_t bytes) override;
  void copy_to_host(void*, const void*, std::int64_t) override {}
  void copy_to_device(void*, const void*, std::int64_t) override {}

  /// Weights keep their shape; bytes() is that of the canonical form.
  std::unique_ptr<PackedWeight> prepare(const Weight& weight) override;
  std::unique_ptr<PackedWeight> prepare_table(const Weight& weight, bool also_linear) override;
  std::unique_ptr<DeviceBuffer> prepare_vector(const Weight& weight, float offset) override;

  bool supports(const KvSpec& spec) const override { return real_.supports(spec); }
  std::int64_t kv_block_bytes(const KvSpec& spec) const override { return real_.kv_block_bytes(spec); }
  std::unique_ptr<KvPool> make_kv_pool(const KvSpec& spec, std::int64_t blocks) override;

  void embed(Tensor, const PackedWeight&, std::span<const std::int32_t>, float) override {}
  void linear(Tensor, Tensor, const PackedWeight&, const DeviceBuffer*) override {}
  void rms_norm(Tensor, Tensor, const DeviceBuffer&, float) override {}
  void add(Tensor, Tensor) override {}
  void gated_activation(Tensor, Tensor, Tensor, Activation) override {}
  void softcap(Tensor, float) override {}
  void scale(Tensor, float) override {}
  void gather_rows(Tensor, Tensor, std::span<const std::int32_t>) override {}
  void rope_store(const RopeStoreArgs&, const BatchView&, KvPool&) override {}
  void attention(const AttentionArgs&, const BatchView&, const KvPool&) override {}
  /// There is nothing to read: calling it is a bug.
  void read_kv(const KvPool&, int, std::span<const std::int32_t>, std::int64_t, float*, float*) const override;

 private:
  const Backend& real_;
};

}  // namespace bittern
