// Construction, memory, weights and the KV cache of the CPU backend; its row operations are in row_ops.cpp.
#include "backend/cpu/cpu_backend.h"

#include <fmt/core.h>

#include <cstdlib>
#include <cstring>

#include "backend/backends.h"
#include "backend/cpu/rope.h"
#include "backend/host_buffer.h"
#include "base/check.h"

namespace bittern {

std::unique_ptr<Backend> make_cpu_backend(const BackendOptions& options) {
  return std::make_unique<cpu::CpuBackend>(options);
}

}  // namespace bittern

namespace bittern::cpu {
namespace {

constexpr int kMaxHeadDim = 1024;

std::string kernel_pin(const BackendOptions& options) {
  if (!options.kernel_pin.empty()) return options.kernel_pin;
  const char* pin = std::getenv("BITTERN_KERNEL");
  return pin == nullptr ? "" : pin;
}

}  // namespace

CpuBackend::CpuBackend(const BackendOptions& options)
    : isa_(choose_isa(options.isa)),
      table_(kernel_table(isa_)),
      pool_(options.threads > 0 ? options.threads : ThreadPool::default_size()),
      linear_(isa_, options.deterministic, kernel_pin(options), options.compute, pool_),
      attention_(isa_, pool_) {}

std::string CpuBackend::description() const {
  return fmt::format("cpu ({}, {} thread{})", isa_name(isa_), pool_.size(), pool_.size() == 1 ? "" : "s");
}

std::vector<KernelChoice> CpuBackend::kernel_choices() const {
  std::vector<KernelChoice> choices = linear_.choices();
  choices.push_back({"attention", std::string("paged_chunks_") + table_.isa});
  choices.push_back({"norms and activations", std::string("rows_") + table_.isa});
  return choices;
}

std::unique_ptr<DeviceBuffer> CpuBackend::allocate(std::int64_t bytes) { return std::make_unique<HostBuffer>(bytes); }

void CpuBackend::copy_to_host(void* host, const void* device, std::int64_t bytes) {
  std::memcpy(host, device, static_cast<std::size_t>(bytes));
}

void CpuBackend::copy_to_device(void* device, const void* host, std::int64_t bytes) {
  std::memcpy(device, host, static_cast<std::size_t>(bytes));
}

std::unique_ptr<PackedWeight> CpuBackend::prepare(const Weight& weight) { return CpuWeight::tiles(weight, pool_); }

std::unique_ptr<PackedWeight> CpuBackend::prepare_table(const Weight& weight, bool also_linear) {
  return also_linear ? CpuWeight::tiles(weight, pool_) : CpuWeight::rows(weight, pool_);
}

std::unique_ptr<PackedWeight> CpuBackend::adopt_packing(const SavedPacking& saved, bool for_linear) {
  if (saved.layout != CpuWeight::layout()) return nullptr;
  std::unique_ptr<CpuWeight> weight = CpuWeight::adopt(saved);
  return for_linear && !weight->tiled() ? nullptr : std::move(weight);
}

std::unique_ptr<DeviceBuffer> CpuBackend::prepare_vector(const Weight& weight, float offset) {
  BITTERN_CHECK(weight.in == 1, "{} has {} columns", weight.name, weight.in);
  const Weight values = to_f32(weight);
  auto buffer = std::make_unique<HostBuffer>(weight.out * static_cast<std::int64_t>(sizeof(float)));
  float* out = static_cast<float*>(buffer->data());
  for (std::int64_t i = 0; i < weight.out; ++i) out[i] = values.data.as<float>()[i] + offset;
  return buffer;
}

bool CpuBackend::supports(const KvSpec& spec) const {
  return spec.layers > 0 && spec.kv_heads > 0 && spec.block_tokens > 0 && spec.head_dim > 0 &&
         spec.head_dim <= kMaxHeadDim;
}

std::int64_t CpuBackend::kv_block_bytes(const KvSpec& spec) const { return kv_block_stride(spec); }

std::unique_ptr<KvPool> CpuBackend::make_kv_pool(const KvSpec& spec, std::int64_t blocks) {
  BITTERN_CHECK(supports(spec) && blocks >= 0);
  return std::make_unique<CpuKvPool>(spec, blocks);
}

void CpuBackend::rope_store(const RopeStoreArgs& args, const BatchView& batch, KvPool& pool) {
  cpu::rope_store(args, batch, cpu_kv_pool(pool), pool_);
}

void CpuBackend::attention(const AttentionArgs& args, const BatchView& batch, const KvPool& pool) {
  const KvSpec& spec = pool.spec();
  for (const Tensor& t : {args.q, args.out}) {
    BITTERN_CHECK(t.dtype == DType::f32 && t.rank == 3 && t.rows() == batch.tokens && t.cols() == spec.head_dim,
                  "{} for {} tokens of head_dim {}", t.describe(), batch.tokens, spec.head_dim);
  }
  BITTERN_CHECK(args.q.shape[1] == args.out.shape[1] && args.q.shape[1] % spec.kv_heads == 0);
  BITTERN_CHECK(args.layer >= 0 && args.layer < spec.layers && args.window >= 0);
  attention_.run(args, batch, cpu_kv_pool(pool));
}

void CpuBackend::read_kv(const KvPool& pool, int layer, std::span<const std::int32_t> blocks, std::int64_t tokens,
                         float* k, float* v) const {
  const CpuKvPool& source = cpu_kv_pool(pool);
  const KvSpec& spec = pool.spec();
  for (std::int64_t t = 0; t < tokens; ++t) {
    const std::int32_t block = blocks[static_cast<std::size_t>(t / spec.block_tokens)];
    for (int h = 0; h < spec.kv_heads; ++h) {
      const std::int64_t at = (t * spec.kv_heads + h) * spec.head_dim;
      source.load(layer, block, t % spec.block_tokens, h, k + at, v + at);
    }
  }
}

}  // namespace bittern::cpu
