// From ModelConfig to config.ini.
#include "models/workspace_config.h"

#include <fmt/core.h>

#include <filesystem>
#include <set>

#include "base/strings.h"

namespace bittern {
namespace {

// LMDeploy's spelling of an element type.
std::string type_name(const Format& format) {
  if (format.kind == FormatKind::grouped) {
    return format.codes == Codes::integer ? fmt::format("int{}", format.bits) : std::string(codes_name(format.codes));
  }
  switch (format.dtype) {
    case DType::f16: return "fp16";
    case DType::f32: return "fp32";
    default: return std::string(dtype_name(format.dtype));
  }
}

bool in_a_layer(const std::string& name) { return name.find_first_of("0123456789") != std::string::npos; }

void set_weight_type(ConfigIni& ini, const std::map<std::string, Format>& formats) {
  std::set<std::string> types;
  std::set<std::int64_t> groups;
  for (const auto& [name, format] : formats) {
    if (!in_a_layer(name)) continue;
    types.insert(type_name(format));
    groups.insert(format.group_size);
  }
  ini.set("weight_type", types.size() == 1 ? *types.begin() : "mixed");
  ini.set("group_size", std::to_string(groups.size() == 1 ? *groups.begin() : 0));
}

std::string model_name(const std::string& origin) {
  const std::filesystem::path path(origin);
  const std::string name = path.has_filename() ? path.filename().string() : path.parent_path().filename().string();
  return name.empty() ? "model" : name;
}

// As one line of an INI file can hold it.
std::string plain_line(std::string text) {
  constexpr std::size_t kLongest = 100;
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < ' ' || c == ';' || c == '#') c = '_';
  }
  return text.substr(0, utf8_valid_prefix(text.substr(0, kLongest)));
}

std::string number(double value) {
  const std::string text = fmt::format("{}", value);
  return text.find_first_of(".e") == std::string::npos ? text + ".0" : text;
}

}  // namespace

ConfigIni describe_model(const ModelFiles& files, const ModelConfig& config,
                         const std::map<std::string, Format>& formats) {
  ConfigIni ini;
  const std::string name = plain_line(model_name(files.origin()));
  ini.set("model_name", trim(name).empty() ? "model" : std::string(trim(name)));
  ini.set("tensor_para_size", "1");
  ini.set("head_num", std::to_string(config.heads));
  ini.set("kv_head_num", std::to_string(config.kv_heads));
  ini.set("size_per_head", std::to_string(config.head_dim));
  ini.set("vocab_size", std::to_string(config.vocab));
  ini.set("num_layer", std::to_string(config.layers));
  ini.set("inter_size", std::to_string(config.ffn));
  ini.set("rotary_embedding", std::to_string(config.rotary_dim));
  set_weight_type(ini, formats);
  ini.set("start_id", std::to_string(config.bos_id));
  ini.set("end_id", std::to_string(config.eos_ids.empty() ? -1 : config.eos_ids.front()));
  ini.set("norm_eps", number(config.norm_eps));
  ini.set("rope_theta", number(config.rope.theta));
  ini.set("rope_scaling_factor", "0.0");
  ini.set("max_position_embeddings", std::to_string(config.max_positions));
  ini.set("session_len", std::to_string(config.max_positions));
  return ini;
}

ConfigIni with_run_settings(ConfigIni ini, const RunSettings* given) {
  const RunSettings none;
  const RunSettings& run = given != nullptr ? *given : none;
  if (run.context) ini.set("session_len", std::to_string(*run.context));
  ini.set("max_batch_size", std::to_string(run.max_sequences.value_or(16)));
  ini.set("num_tokens_per_iter", std::to_string(run.max_step_tokens.value_or(0)));
  ini.set("cache_block_seq_len", std::to_string(run.block_tokens.value_or(64)));
  ini.set("cache_max_entry_count",
          run.kv_cache_blocks ? std::to_string(*run.kv_cache_blocks) : number(run.kv_cache_share.value_or(0.5)));
  ini.set("quant_policy", !run.kv_cache ? "0" : *run.kv_cache == "int8-static" ? "4" : "8");
  return ini;
}

}  // namespace bittern
