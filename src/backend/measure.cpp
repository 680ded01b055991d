// Buffers and weights that have a size and no memory.
#include "backend/measure.h"

#include "base/check.h"

namespace bittern {
namespace {

class SizeOnlyBuffer final : public DeviceBuffer {
 public:
  explicit SizeOnlyBuffer(std::int64_t bytes) : bytes_(bytes) {}
  void* data() const override { return nullptr; }
  std::int64_t bytes() const override { return bytes_; }

 private:
  std::int64_t bytes_;
};

class SizeOnlyWeight final : public PackedWeight {
 public:
  explicit SizeOnlyWeight(const Weight& weight)
      : PackedWeight(weight.format, weight.out, weight.in), bytes_(weight.bytes()) {}
  std::int64_t bytes() const override { return bytes_; }

 private:
  std::int64_t bytes_;
};

}  // namespace

std::unique_ptr<DeviceBuffer> MeasureBackend::allocate(std::int64_t bytes) {
  return std::make_unique<SizeOnlyBuffer>(bytes);
}

std::unique_ptr<PackedWeight> MeasureBackend::prepare(const Weight& weight) {
  return std::make_unique<SizeOnlyWeight>(weight);
}

std::unique_ptr<PackedWeight> MeasureBackend::prepare_table(const Weight& weight, bool) { return prepare(weight); }

std::unique_ptr<DeviceBuffer> MeasureBackend::prepare_vector(const Weight& weight, float) {
  return allocate(weight.out * static_cast<std::int64_t>(sizeof(float)));
}

std::unique_ptr<KvPool> MeasureBackend::make_kv_pool(const KvSpec& spec, std::int64_t blocks) {
  return std::make_unique<KvPool>(spec, blocks);
}

void MeasureBackend::read_kv(const KvPool&, int, std::span<const std::int32_t>, std::int64_t, float*, float*) const {
  BITTERN_CHECK(false, "a measured pass stores no keys or values");
}

}  // namespace bittern
