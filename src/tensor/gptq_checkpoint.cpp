// Reading of GPTQ checkpoints. quantization_config gives bits and groups, `dynamic` other ones for single linears.
// Keys that only record how the codes were found (damp_percent, true_sequential, ...) do not matter here.
#include "tensor/gptq_checkpoint.h"

#include <bittern/error.h>

#include <algorithm>

#include "base/strings.h"
#include "tensor/gptq.h"
#include "tensor/quantized_checkpoint.h"
#include "tensor/quote_name.h"

namespace bittern {
namespace {

const std::string kWhere = "quantization_config";

struct GptqConfig {
  GptqLayout layout;
  bool act_order = false;
};

/// A row of `dynamic`: what differs for the linears whose name the expression matches.
struct Override {
  std::string pattern;
  bool excluded = false;  // "-:": these are not quantized
  GptqConfig config;
};

int read_bits(const Json& config, const std::string& where, int fallback) {
  const std::int64_t bits = config_int(config, where, "bits", fallback);
  if (bits != 2 && bits != 3 && bits != 4 && bits != 8) {
    config_unsupported(where, "bits", config.value("bits", Json(nullptr)), "2, 3, 4 or 8");
  }
  return static_cast<int>(bits);
}

std::int64_t read_group_size(const Json& config, const std::string& where, std::int64_t fallback) {
  const std::int64_t size = config_int(config, where, "group_size", fallback);
  if (size != -1 && size <= 0) config_unsupported(where, "group_size", config["group_size"], "-1 or a positive number");
  return size;
}

GptqZeros read_zeros(const Json& config) {
  for (const char* key : {"checkpoint_format", "format"}) {
    const std::string format = to_lower(config_string(config, kWhere, key, ""));
    if (format == "gptq_v2") return GptqZeros::plain;
    if (!format.empty() && format != "gptq") config_unsupported(kWhere, key, config[key], "\"gptq\" and \"gptq_v2\"");
    if (!format.empty()) break;
  }
  return GptqZeros::minus_one;
}

void refuse_other_layouts(const Json& config, const std::string& where) {
  if (config_bool(config, where, "is_marlin_format", false)) {
    config_unsupported(where, "is_marlin_format", config["is_marlin_format"], "false");
  }
  if (const std::string words = config_string(config, where, "pack_dtype", "int32"); words != "int32") {
    config_unsupported(where, "pack_dtype", config["pack_dtype"], "\"int32\"");
  }
  for (const char* key : {"adapter", "rotation"}) {  // both change what the linear computes
    if (const Json* value = config_value(config, key)) config_unsupported(where, key, *value, "only null");
  }
}

GptqConfig read_config(const Json& config, const std::string& where, const GptqConfig& fallback) {
  refuse_other_layouts(config, where);
  GptqConfig result = fallback;
  result.layout.bits = read_bits(config, where, fallback.layout.bits);
  result.layout.group_size = read_group_size(config, where, fallback.layout.group_size);
  result.layout.symmetric = config_bool(config, where, "sym", fallback.layout.symmetric);
  result.act_order = config_bool(config, where, "desc_act", fallback.act_order);
  return result;
}

std::vector<Override> read_overrides(const Json& config, const GptqConfig& base) {
  std::vector<Override> rows;
  const Json* dynamic = config_value(config, "dynamic");
  if (!dynamic) return rows;
  if (dynamic->is_boolean() && !dynamic->get<bool>()) return rows;
  if (!dynamic->is_object()) config_wrong_type(kWhere, "dynamic", "an object", *dynamic);
  for (const auto& [key, value] : dynamic->items()) {
    const bool signed_key = key.starts_with("+:") || key.starts_with("-:");
    Override row{key.substr(signed_key ? 2 : 0), key.starts_with("-:"), base};
    if (!value.is_object()) config_wrong_type(kWhere + ".dynamic", key, "an object", value);
    if (!row.excluded) row.config = read_config(value, kWhere + ".dynamic." + key, base);
    matches_pattern(row.pattern, "");  // a bad expression is an error before any weight is read
    rows.push_back(std::move(row));
  }
  return rows;
}

class GptqCheckpoint final : public QuantizedCheckpoint {
 public:
  GptqCheckpoint(std::unique_ptr<Checkpoint> plain, GptqConfig config, std::vector<Override> overrides)
      : QuantizedCheckpoint(std::move(plain)), config_(config), overrides_(std::move(overrides)) {}

 protected:
  bool is_quantized(const std::string& module) const override { return contains(module + ".qweight"); }

  Weight quantized(LinearParts& parts) const override {
    const GptqConfig config = config_of(parts.module());
    GptqTensors tensors;
    tensors.qweight = parts.take("qweight");
    tensors.qzeros = parts.take("qzeros");
    tensors.scales = parts.take("scales");
    tensors.g_idx = parts.take_if("g_idx");
    tensors.keep = parts.keep();
    if (config.act_order && tensors.g_idx.rank == 0) {
      throw Error(ErrorCode::invalid_checkpoint,
                  parts.module() + ": has no g_idx, but quantization_config.desc_act is true");
    }
    skip_zero_bias(parts);
    return unpack_gptq(parts.module(), tensors, config.layout);
  }

 private:
  GptqConfig config_of(const std::string& module) const {
    const Override* found = nullptr;
    for (const Override& row : overrides_) {
      if (!matches_pattern(row.pattern, module)) continue;
      if (row.excluded) {
        throw Error(ErrorCode::invalid_checkpoint, module + ": is stored quantized, but quantization_config.dynamic " +
                                                       quote_name("-:" + row.pattern) + " excludes it");
      }
      if (found && !same(found->config, row.config)) {
        // Their order decides for GPTQModel, but the order of keys is not part of JSON.
        throw Error(ErrorCode::unsupported, module + ": quantization_config.dynamic has two expressions for it, " +
                                                quote_name(found->pattern) + " and " + quote_name(row.pattern));
      }
      found = &row;
    }
    return found ? found->config : config_;
  }

  static bool same(const GptqConfig& a, const GptqConfig& b) {
    return a.layout.bits == b.layout.bits && a.layout.group_size == b.layout.group_size &&
           a.layout.symmetric == b.layout.symmetric && a.act_order == b.act_order;
  }

  // Old versions of AutoGPTQ stored a bias of zeros for linears that have none; leaving it out changes nothing.
  void skip_zero_bias(LinearParts& parts) const {
    if (!parts.has("bias")) return;
    const Weight bias = to_f32(dense(parts.key("bias")));
    const float* values = bias.data.as<float>();
    if (std::all_of(values, values + bias.out * bias.in, [](float value) { return value == 0.0F; })) parts.skip("bias");
  }

  GptqConfig config_;
  std::vector<Override> overrides_;
};

}  // namespace

std::unique_ptr<Checkpoint> open_gptq_checkpoint(std::unique_ptr<Checkpoint> plain, const Json& quantization_config) {
  GptqConfig config;
  if (!config_value(quantization_config, "bits")) {
    throw Error(ErrorCode::invalid_checkpoint, kWhere + ".bits is missing");
  }
  config.layout.group_size = 128;  // GPTQModel's default
  config.layout.zeros = read_zeros(quantization_config);
  config = read_config(quantization_config, kWhere, config);
  std::vector<Override> overrides = read_overrides(quantization_config, config);
  return std::make_unique<GptqCheckpoint>(std::move(plain), config, std::move(overrides));
}

}  // namespace bittern
