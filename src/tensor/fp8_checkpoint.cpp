// Reading of fp8 checkpoints. A linear is quantized when its weight is stored as e4m3; the lists of modules that are
// not (modules_to_not_convert, ignored_layers) only repeat that. Both names of the scale mean a factor: w = code *
// scale.
#include "tensor/fp8_checkpoint.h"

#include <bittern/error.h>

#include "base/strings.h"
#include "tensor/fp8.h"
#include "tensor/quantized_checkpoint.h"

namespace bittern {
namespace {

const std::string kWhere = "quantization_config";

struct Fp8Config {
  bool blocks = false;
  ScaleTiles tiles;                 // of blocks
  bool static_activations = false;  // linears have a scale for their inputs
};

void check_element_format(const Json& config) {
  const std::string format = to_lower(config_string(config, kWhere, "fmt", "e4m3"));
  if (format != "e4m3" && format != "float8_e4m3fn") config_unsupported(kWhere, "fmt", config["fmt"], "\"e4m3\"");
}

bool read_static(const Json& config) {
  const std::string scheme = config_string(config, kWhere, "activation_scheme", "dynamic");
  if (scheme != "dynamic" && scheme != "static") {
    config_unsupported(kWhere, "activation_scheme", config["activation_scheme"], "\"dynamic\" and \"static\"");
  }
  return scheme == "static";
}

void read_blocks(const Json& config, Fp8Config& result) {
  const Json* size = config_value(config, "weight_block_size");
  if (!size) return;
  const auto positive = [](const Json& n) {
    return n.is_number_integer() && n.get<std::int64_t>() > 0 && n.get<std::int64_t>() <= (1 << 30);
  };
  if (!size->is_array() || size->size() != 2 || !positive((*size)[0]) || !positive((*size)[1])) {
    config_wrong_type(kWhere, "weight_block_size", "two positive numbers", *size);
  }
  result.blocks = true;
  result.tiles = {(*size)[0].get<std::int64_t>(), (*size)[1].get<std::int64_t>()};
}

class Fp8Checkpoint final : public QuantizedCheckpoint {
 public:
  Fp8Checkpoint(std::unique_ptr<Checkpoint> plain, Fp8Config config)
      : QuantizedCheckpoint(std::move(plain)), config_(config) {}

 protected:
  bool is_quantized(const std::string& module) const override {
    const TensorEntry* weight = find_entry(*this, module + ".weight");
    return weight != nullptr && weight->dtype == DType::f8_e4m3;
  }

  Weight quantized(LinearParts& parts) const override {
    const Tensor codes = parts.take("weight");
    const char* scale_part = parts.has("weight_scale_inv") ? "weight_scale_inv" : "weight_scale";
    const Tensor scales = parts.take(scale_part);
    if (config_.static_activations) skip_input_scale(parts);
    return unpack_fp8(parts.module(), codes, parts.key(scale_part), scales, tiles_of(scales), parts.keep());
  }

 private:
  ScaleTiles tiles_of(const Tensor& scales) const {
    if (config_.blocks) return config_.tiles;
    return {scales.size() == 1 ? 0 : 1, 0};
  }

  // It only says where inputs would be cut off and rounded, which is not done here.
  static void skip_input_scale(LinearParts& parts) {
    for (const char* part : {"input_scale", "activation_scale"}) {
      if (parts.has(part)) return parts.skip(part);
    }
    throw Error(ErrorCode::invalid_checkpoint, parts.module() +
                                                   ": has no input_scale, but quantization_config.activation_scheme "
                                                   "is static");
  }

  Fp8Config config_;
};

}  // namespace

std::unique_ptr<Checkpoint> open_fp8_checkpoint(std::unique_ptr<Checkpoint> plain, const Json& quantization_config) {
  check_element_format(quantization_config);
  Fp8Config config;
  config.static_activations = read_static(quantization_config);
  read_blocks(quantization_config, config);
  return std::make_unique<Fp8Checkpoint>(std::move(plain), config);
}

}  // namespace bittern
