// RefBackend: every operation as the formula reads, one thread, sums in double. It is the oracle of the parity tests
// and favours being obviously right over everything else; nobody should serve with it.
// NaN and infinity propagate through every operation as IEEE arithmetic has it; a key or value row that holds one is
// stored as it is by the float KV formats, reads back as all NaN from int8 and int4, and is clamped by
// int8_static (kv_static_code).
#pragma once

#include "backend/backend.h"

namespace bittern {

class RefBackend final : public Backend {
 public:
  /// `round_activations`: for weights made for 8-bit activations, as backend.h defines it.
  explicit RefBackend(bool round_activations) : round_activations_(round_activations) {}

  std::string_view name() const override { return "ref"; }
  std::string description() const override { return "ref (plain loops, 1 thread)"; }
  std::vector<KernelChoice> kernel_choices() const override { return {{"everything", "loop"}}; }

  std::unique_ptr<DeviceBuffer> allocate(std::int64_t bytes) override;
  void copy_to_host(void* host, const void* device, std::int64_t bytes) override;
  void copy_to_device(void* device, const void* host, std::int64_t bytes) override;

  std::unique_ptr<PackedWeight> prepare(const Weight& weight) override;
  std::unique_ptr<PackedWeight> prepare_table(const Weight& weight, bool also_linear) override;
  std::unique_ptr<DeviceBuffer> prepare_vector(const Weight& weight, float offset) override;

  bool supports(const KvSpec& spec) const override;
  std::int64_t kv_block_bytes(const KvSpec& spec) const override;
  std::unique_ptr<KvPool> make_kv_pool(const KvSpec& spec, std::int64_t blocks) override;

  void embed(Tensor out, const PackedWeight& table, std::span<const std::int32_t> ids, float scale) override;
  void linear(Tensor out, Tensor x, const PackedWeight& w, const DeviceBuffer* bias) override;
  void rms_norm(Tensor out, Tensor x, const DeviceBuffer& weight, float eps) override;
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
  bool round_activations_;
};

}  // namespace bittern
