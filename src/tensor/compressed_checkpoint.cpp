// Reading of compressed-tensors checkpoints: finds the group of a linear and takes the tensors its layout has.
#include "tensor/compressed_checkpoint.h"

#include <bittern/error.h>

#include "tensor/compressed_config.h"
#include "tensor/compressed_tensors.h"
#include "tensor/quantized_checkpoint.h"

namespace bittern {
namespace {

class CompressedCheckpoint final : public QuantizedCheckpoint {
 public:
  CompressedCheckpoint(std::unique_ptr<Checkpoint> plain, CompressedConfig config)
      : QuantizedCheckpoint(std::move(plain)), config_(std::move(config)) {}

 protected:
  bool is_quantized(const std::string& module) const override {
    if (contains(module + ".weight_packed") || contains(module + ".weight_scale")) return true;
    return contains(module + ".weight") && config_.group_of(module) != nullptr;
  }

  Weight quantized(LinearParts& parts) const override {
    const CompressedGroup* group = config_.group_of(parts.module());
    if (!group) {
      throw Error(ErrorCode::invalid_checkpoint,
                  parts.module() + ": is stored quantized, but no group of quantization_config targets it");
    }
    return unpack_compressed(parts.module(), take(parts, *group), group->layout);
  }

 private:
  static CompressedTensors take(LinearParts& parts, const CompressedGroup& group) {
    const CompressedLayout& layout = group.layout;
    const bool packed = layout.kind == CompressedKind::packed;
    CompressedTensors tensors;
    tensors.weight = parts.take(packed || layout.kind == CompressedKind::mxfp4 ? "weight_packed" : "weight");
    tensors.scale = parts.take("weight_scale");
    if (packed) tensors.shape = parts.take("weight_shape");
    if (packed) tensors.g_idx = parts.take_if("weight_g_idx");
    if (!layout.symmetric) tensors.zero_point = parts.take("weight_zero_point");
    if (group.input_scale) parts.take("input_scale");
    tensors.keep = parts.keep();
    return tensors;
  }

  CompressedConfig config_;
};

}  // namespace

std::unique_ptr<Checkpoint> open_compressed_checkpoint(std::unique_ptr<Checkpoint> plain,
                                                       const Json& quantization_config) {
  return std::make_unique<CompressedCheckpoint>(std::move(plain), CompressedConfig(quantization_config));
}

}  // namespace bittern
