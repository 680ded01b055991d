// Reading of compressed-tensors configurations. The defaults are those of the package's QuantizationArgs.
#include "tensor/compressed_config.h"

#include <bittern/error.h>

#include <algorithm>

#include "tensor/quantized_checkpoint.h"
#include "tensor/quote_name.h"

namespace bittern {
namespace {

const std::string kWhere = "quantization_config";
constexpr std::string_view kLinearClass = "Linear";

bool is_expression(const std::string& target) { return target.starts_with("re:"); }

bool matches_target(const std::string& target, const std::string& module) {
  return is_expression(target) ? matches_pattern(target.substr(3), module) : target == module || target == kLinearClass;
}

/// Objects whose presence changes the computation: read when they say that there is nothing.
void refuse_unless_empty(const Json& config, const std::string& where, const char* key) {
  const Json* value = config_value(config, key);
  if (value && !(value->is_structured() && value->empty())) config_unsupported(where, key, *value, "only null");
}

void refuse_sparsity(const Json& config) {
  const Json* sparsity = config_value(config, "sparsity_config");
  if (!sparsity || (sparsity->is_object() && sparsity->empty())) return;
  if (!sparsity->is_object()) config_wrong_type(kWhere, "sparsity_config", "an object", *sparsity);
  const std::string format = config_string(*sparsity, kWhere + ".sparsity_config", "format", "");
  if (format == "dense") return;  // zeros are stored like other weights
  throw Error(ErrorCode::unsupported,
              kWhere + ".sparsity_config.format is " + quote_name(format) + "; Bittern reads only dense weights");
}

CompressedKind kind_of(const std::string& format, bool floats, const std::string& where) {
  if (format == "pack-quantized" && !floats) return CompressedKind::packed;
  if ((format == "int-quantized" || format == "naive-quantized") && !floats) return CompressedKind::int8;
  if ((format == "float-quantized" || format == "naive-quantized") && floats) return CompressedKind::e4m3;
  if (format == "mxfp4-pack-quantized" && floats) return CompressedKind::mxfp4;
  throw Error(ErrorCode::unsupported,
              where + ".format is " + quote_name(format) + " for weights of type " + (floats ? "float" : "int") +
                  "; Bittern reads pack-quantized, int-quantized, float-quantized, naive-quantized and "
                  "mxfp4-pack-quantized");
}

bool read_floats(const Json& args, const std::string& where) {
  const std::string type = config_string(args, where, "type", "int");
  if (type != "int" && type != "float") config_unsupported(where, "type", args["type"], "\"int\" and \"float\"");
  return type == "float";
}

std::string read_strategy(const Json& args, const std::string& where, std::int64_t group_size) {
  const std::string implied = group_size > 0 ? "group" : group_size == -1 ? "channel" : "tensor";
  return config_string(args, where, "strategy", implied);
}

ScaleTiles read_blocks(const Json& args, const std::string& where) {
  const Json* shape = config_value(args, "block_structure");
  const auto fits = [](const Json& n) {
    return n.is_number_integer() && n.get<std::int64_t>() > 0 && n.get<std::int64_t>() <= (1 << 30);
  };
  if (!shape || !shape->is_array() || shape->size() != 2 || !fits((*shape)[0]) || !fits((*shape)[1])) {
    config_wrong_type(where, "block_structure", "two positive numbers", shape ? *shape : Json());
  }
  return {(*shape)[0].get<std::int64_t>(), (*shape)[1].get<std::int64_t>()};
}

ScaleTiles read_tiles(const Json& args, const std::string& where, bool blocks_fit) {
  const std::int64_t group_size = config_int(args, where, "group_size", 0);
  const std::string strategy = read_strategy(args, where, group_size);
  if (strategy == "tensor") return {0, 0};
  if (strategy == "channel") return {1, 0};
  if (strategy == "block" && blocks_fit) return read_blocks(args, where);
  if (strategy != "group") {
    config_unsupported(where, "strategy", Json(strategy),
                       blocks_fit ? "tensor, channel, group and block" : "tensor, channel and group");
  }
  if (group_size <= 0) config_wrong_type(where, "group_size", "positive", Json(group_size));
  return {1, group_size};
}

void check_bits(const CompressedLayout& layout, const Json& args, const std::string& where) {
  const auto refuse = [&](const char* accepted) {
    config_unsupported(where, "num_bits", args.value("num_bits", Json(8)), accepted);
  };
  if (layout.kind == CompressedKind::e4m3 && layout.bits != 8) refuse("8 for float-quantized weights");
  if (layout.kind == CompressedKind::mxfp4 && layout.bits != 4) refuse("4 for mxfp4-pack-quantized weights");
  if (layout.bits < 2 || layout.bits > 8) refuse("2 to 8");
}

CompressedLayout read_weights(const Json& args, const std::string& format, const std::string& where) {
  const bool floats = read_floats(args, where);
  CompressedLayout layout;
  layout.kind = kind_of(format, floats, kWhere);
  layout.bits = static_cast<int>(config_int(args, where, "num_bits", 8));
  layout.symmetric = config_bool(args, where, "symmetric", true);
  layout.tiles = read_tiles(args, where, layout.kind == CompressedKind::e4m3);
  check_bits(layout, args, where);
  if (floats && !layout.symmetric) config_unsupported(where, "symmetric", args["symmetric"], "true for floats");
  if (layout.kind == CompressedKind::mxfp4 && layout.tiles.cols != 32) {
    config_unsupported(where, "group_size", config_value(args, "group_size") ? args["group_size"] : Json(), "32");
  }
  if (const Json* dynamic = config_value(args, "dynamic"); dynamic && *dynamic != false) {
    config_unsupported(where, "dynamic", *dynamic, "false for weights");
  }
  return layout;
}

/// Dynamic int8 per token is W8A8 and noted in the format. Rounding of inputs to fp8 is left out, as programs do on
/// hardware without fp8; a static scale then has no use. Any other rounding of inputs is refused.
void read_inputs(const Json& args, const std::string& where, CompressedGroup& group) {
  const bool floats = read_floats(args, where);
  const bool floats_fit = group.layout.kind == CompressedKind::e4m3;
  const std::int64_t bits = config_int(args, where, "num_bits", 8);
  if (bits != 8 || floats != floats_fit) {
    throw Error(ErrorCode::unsupported, where + " rounds inputs to " + std::to_string(bits) + "-bit " +
                                            (floats ? "float" : "int") + "; Bittern reads 8-bit " +
                                            (floats_fit ? "float" : "int") + " inputs for such weights");
  }
  const Json* dynamic = config_value(args, "dynamic");
  const bool is_dynamic = dynamic && *dynamic == true;
  if (floats) {
    group.input_scale = !is_dynamic;
    if (dynamic && !dynamic->is_boolean()) config_unsupported(where, "dynamic", *dynamic, "true or false");
    return;
  }
  if (!is_dynamic) config_unsupported(where, "dynamic", dynamic ? *dynamic : Json(false), "true for int8 inputs");
  if (!config_bool(args, where, "symmetric", true)) config_unsupported(where, "symmetric", args["symmetric"], "true");
  const std::string strategy = config_string(args, where, "strategy", "tensor");
  if (strategy != "token") config_unsupported(where, "strategy", Json(strategy), "\"token\" for int8 inputs");
  group.layout.int8_activations = true;
}

CompressedGroup read_group(const std::string& name, const Json& value, const std::string& shared_format) {
  const std::string where = kWhere + ".config_groups." + name;
  if (!value.is_object()) config_wrong_type(kWhere + ".config_groups", name, "an object", value);
  CompressedGroup group{name, {}, false, config_names(value, where, "targets")};
  const Json* weights = config_value(value, "weights");
  if (!weights || !weights->is_object()) config_wrong_type(where, "weights", "an object", weights ? *weights : Json());
  group.layout = read_weights(*weights, config_string(value, where, "format", shared_format), where + ".weights");
  if (const Json* inputs = config_value(value, "input_activations")) {
    if (!inputs->is_object()) config_wrong_type(where, "input_activations", "an object", *inputs);
    read_inputs(*inputs, where + ".input_activations", group);
  }
  refuse_unless_empty(value, where, "output_activations");
  return group;
}

void check_status(const Json& config) {
  const std::string status = config_string(config, kWhere, "quantization_status", "compressed");
  if (status != "compressed") {
    config_unsupported(kWhere, "quantization_status", config["quantization_status"], "\"compressed\"");
  }
}

}  // namespace

CompressedConfig::CompressedConfig(const Json& config) {
  refuse_sparsity(config);
  for (const char* key : {"kv_cache_scheme", "transform_config", "moe_sparsity_config"}) {
    refuse_unless_empty(config, kWhere, key);
  }
  check_status(config);
  const std::string format = config_string(config, kWhere, "format", "");
  const Json* groups = config_value(config, "config_groups");
  if (!groups || !groups->is_object() || groups->empty()) {
    config_wrong_type(kWhere, "config_groups", "an object with groups", groups ? *groups : Json());
  }
  for (const auto& [name, value] : groups->items()) groups_.push_back(read_group(name, value, format));
  ignore_ = config_names(config, kWhere, "ignore");
  index_targets();
}

void CompressedConfig::index_targets() {
  for (std::size_t i = 0; i < groups_.size(); ++i) {
    for (const std::string& target : groups_[i].targets) targets_.emplace_back(target, i);
  }
  const auto rank = [](const std::string& target) {
    return target == kLinearClass ? 2 : is_expression(target) ? 1 : 0;
  };
  std::ranges::sort(targets_, {}, [&](const auto& t) { return std::pair(rank(t.first), t.first); });
  const auto twice = std::ranges::adjacent_find(targets_, {}, [](const auto& t) { return t.first; });
  if (twice != targets_.end()) {
    throw Error(ErrorCode::invalid_checkpoint, kWhere + ".config_groups: " + groups_[twice->second].name + " and " +
                                                   groups_[(twice + 1)->second].name + " both target " +
                                                   quote_name(twice->first));
  }
  for (const auto& [target, group] : targets_) matches_target(target, "");  // bad expressions are errors now
  for (const std::string& target : ignore_) matches_target(target, "");
}

const CompressedGroup* CompressedConfig::group_of(const std::string& module) const {
  const auto hits = [&](const std::string& target) { return matches_target(target, module); };
  if (std::ranges::any_of(ignore_, hits)) return nullptr;
  const auto found = std::ranges::find_if(targets_, hits, [](const auto& t) { return t.first; });
  return found == targets_.end() ? nullptr : &groups_[found->second];
}

}  // namespace bittern
