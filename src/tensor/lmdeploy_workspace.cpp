// The files of an LMDeploy workspace: config.ini turned into config.json, and its KV scales into kv_params.safetensors.
#include "tensor/lmdeploy_workspace.h"

#include <bittern/error.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "base/mmap_file.h"

namespace bittern {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kConfig = "config.json";
constexpr std::string_view kGeneration = "generation_config.json";
constexpr std::string_view kKvParams = "kv_params.safetensors";

// The folder that holds weights/ and tokenizer/; empty when `dir` is no such workspace.
fs::path root_of(const fs::path& dir) {
  std::error_code ignored;
  if (fs::is_regular_file(dir / "triton_models" / "weights" / "config.ini", ignored)) return dir / "triton_models";
  const bool inner = fs::is_regular_file(dir / "weights" / "config.ini", ignored) &&
                     fs::is_regular_file(dir / "weights" / "norm.weight", ignored);
  return inner ? dir : fs::path();
}

[[noreturn]] void unsupported(const std::string& message, std::string hint) {
  throw Error(ErrorCode::unsupported, message, std::move(hint));
}

void check_supported(const ConfigIni& ini, const std::string& path) {
  const std::string type = ini.text("weight_type", "fp16");
  if (type == "int4" || type == "int8") {
    unsupported(path + ": weight_type is " + type +
                    ": LMDeploy stores such weights (qweight, scales_zeros) in the order of one GPU kernel's registers",
                "give the AWQ checkpoint it was made from, which Bittern reads");
  }
  if (type != "fp16" && type != "bf16" && type != "fp32") {
    unsupported(path + ": weight_type is '" + type + "'", "fp16, bf16 and fp32 are read");
  }
  if (ini.has("rotary_embedding") && ini.integer("rotary_embedding", 0) != ini.require_integer("size_per_head")) {
    unsupported(path +
                    ": rotary_embedding is not size_per_head: how the rotated part of a head was interleaved is not "
                    "documented",
                "give the Hugging Face checkpoint");
  }
  const std::int64_t parts = ini.integer("tensor_para_size", 1), heads = ini.require_integer("head_num");
  const std::int64_t kv_heads = ini.integer("kv_head_num", heads), width = ini.require_integer("inter_size");
  if (heads % kv_heads != 0 || heads % parts != 0 || kv_heads % parts != 0 || width % parts != 0) {
    throw Error(ErrorCode::invalid_checkpoint,
                path + ": heads and inter_size cannot be split into tensor_para_size = " + std::to_string(parts));
  }
}

std::string torch_dtype(const std::string& weight_type) {
  return weight_type == "bf16" ? "bfloat16" : weight_type == "fp32" ? "float32" : "float16";
}

bool has_output_bias(const fs::path& weights) {
  std::error_code ignored;
  return fs::exists(weights / "layers.0.attention.wo.0.bias", ignored) ||
         fs::exists(weights / "layers.0.attention.wo.bias", ignored);
}

// The longest sequence the file speaks of; 0 stood for "not stated".
std::int64_t positions(const ConfigIni& ini, bool dynamic) {
  const std::int64_t made_for = ini.integer("max_position_embeddings", 0);
  const std::int64_t session = ini.integer("session_len", 2048);
  if (made_for == 0) return session;
  return dynamic ? made_for : std::max(made_for, session);
}

std::string scales_name(std::int64_t layer, std::int64_t part) {
  return "layers." + std::to_string(layer) + ".past_kv_scale." + std::to_string(part) + ".weight";
}

// k_scale, k_zero, v_scale, v_zero of one layer and part.
std::array<float, 4> read_scales(const fs::path& path) {
  const MmapFile file(path);
  std::array<float, 4> scales{};
  if (file.size() != sizeof scales) {
    throw Error(ErrorCode::invalid_checkpoint,
                path.string() + ": has " + std::to_string(file.size()) + " bytes, not four 32-bit floats" +
                    (file.size() == 8 ? " (the symmetric form, which LMDeploy wrote but could not read)" : ""),
                "make it anew with lmdeploy lite kv_qparams --kv_sym False, or set quant_policy = 8");
  }
  std::memcpy(scales.data(), file.bytes().data(), sizeof scales);
  for (const float value : scales) {
    if (!std::isfinite(value)) throw Error(ErrorCode::invalid_checkpoint, path.string() + ": holds no finite numbers");
  }
  return scales;
}

// A safetensors file of f32 matrices of one shape, as bytes.
std::string safetensors_of(const std::vector<std::pair<std::string, std::vector<float>>>& tensors, std::int64_t rows,
                           std::int64_t columns) {
  OrderedJson header = OrderedJson::object();
  std::size_t offset = 0;
  std::string data;
  for (const auto& [name, values] : tensors) {
    const std::size_t end = offset + values.size() * sizeof(float);
    header[name] = {{"dtype", "F32"}, {"shape", {rows, columns}}, {"data_offsets", {offset, end}}};
    data.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
    offset = end;
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  std::string bytes(8, '\0');
  const std::uint64_t length = text.size();
  std::memcpy(bytes.data(), &length, 8);
  return bytes + text + data;
}

}  // namespace

bool is_lmdeploy_workspace(const fs::path& dir) { return !root_of(dir).empty(); }

LmdeployFiles::LmdeployFiles(const fs::path& dir) : origin_(dir.string()) {
  const fs::path root = root_of(dir);
  weights_dir_ = root / "weights";
  const fs::path path = weights_dir_ / "config.ini";
  const MmapFile file(path);
  ini_ = ConfigIni::parse(file.text(), path.string());
  check_supported(ini_, path.string());
  if (fs::is_directory(root / "tokenizer")) tokenizer_ = ModelFiles::from_directory(root / "tokenizer");
  make_config();
  make_kv_params();
  settings_ = ini_.run_settings(ConfigIni(), made_.contains(kKvParams));
}

void LmdeployFiles::make_config() {
  const std::int64_t heads = ini_.require_integer("head_num"), dim = ini_.require_integer("size_per_head");
  const bool dynamic = ini_.integer("use_dynamic_ntk", 0) != 0 || ini_.real("rope_scaling_factor", 0) > 0;
  const bool bias = ini_.integer("attn_bias", 0) != 0;
  // With biases on q, k and v alone the architecture is the one Qwen made common.
  const bool qwen = bias && !has_output_bias(weights_dir_);
  Json config = {{"architectures", {qwen ? "Qwen2ForCausalLM" : "LlamaForCausalLM"}},
                 {"model_type", qwen ? "qwen2" : "llama"},
                 {"torch_dtype", torch_dtype(ini_.text("weight_type", "fp16"))},
                 {"hidden_size", heads * dim},
                 {"intermediate_size", ini_.require_integer("inter_size")},
                 {"num_hidden_layers", ini_.require_integer("num_layer")},
                 {"num_attention_heads", heads},
                 {"num_key_value_heads", ini_.integer("kv_head_num", heads)},
                 {"head_dim", dim},
                 {"vocab_size", ini_.require_integer("vocab_size")},
                 {"rms_norm_eps", ini_.real("norm_eps", 1e-6)},
                 {"rope_theta", ini_.real("rope_theta", 10000.0)},
                 {"max_position_embeddings", positions(ini_, dynamic)},
                 {"tie_word_embeddings", false}};
  if (bias && !qwen) config["attention_bias"] = true;
  if (ini_.integer("start_id", -1) >= 0) config["bos_token_id"] = ini_.integer("start_id", -1);
  if (ini_.integer("end_id", -1) >= 0) config["eos_token_id"] = ini_.integer("end_id", -1);
  if (dynamic) {
    const double factor = ini_.real("rope_scaling_factor", 0);
    config["rope_scaling"] = {{"rope_type", "dynamic"}, {"factor", factor > 0 ? factor : 1.0}};
  }
  made_.emplace(kConfig, std::make_shared<const std::string>(config.dump(2)));
}

void LmdeployFiles::make_kv_params() {
  std::error_code ignored;
  if (!fs::exists(weights_dir_ / scales_name(0, 0), ignored)) return;
  const std::int64_t layers = ini_.require_integer("num_layer"), parts = ini_.integer("tensor_para_size", 1);
  const std::int64_t heads = ini_.integer("kv_head_num", ini_.require_integer("head_num"));
  const std::int64_t dim = ini_.require_integer("size_per_head");
  constexpr std::array kParts = {"k_scale", "k_zero", "v_scale", "v_zero"};
  std::vector<std::pair<std::string, std::vector<float>>> tensors;
  for (std::int64_t layer = 0; layer < layers; ++layer) {
    std::array<std::vector<float>, 4> values;
    for (std::int64_t part = 0; part < parts; ++part) {
      const std::array<float, 4> scales = read_scales(weights_dir_ / scales_name(layer, part));
      for (std::size_t i = 0; i < 4; ++i) {
        values[i].insert(values[i].end(), static_cast<std::size_t>(heads / parts * dim), scales[i]);
      }
    }
    for (std::size_t i = 0; i < 4; ++i) {
      tensors.emplace_back("layers." + std::to_string(layer) + "." + kParts[i], std::move(values[i]));
    }
  }
  made_.emplace(kKvParams, std::make_shared<const std::string>(safetensors_of(tensors, heads, dim)));
}

std::vector<std::string> LmdeployFiles::list() const {
  std::vector<std::string> names;
  for (const auto& [name, text] : made_) names.push_back(name);
  if (tokenizer_) {
    for (const std::string& name : tokenizer_->list()) {
      if (!made_.contains(name) && find(name)) names.push_back(name);
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::optional<FileBytes> LmdeployFiles::find(std::string_view name) const {
  if (const auto made = made_.find(name); made != made_.end()) {
    return FileBytes{origin_ + "/" + std::string(name), std::as_bytes(std::span(*made->second)), made->second};
  }
  if (!tokenizer_) return std::nullopt;
  std::optional<FileBytes> file = tokenizer_->find(name);
  if (!file || name != kGeneration) return file;
  // The model's own list of end tokens is taken where it agrees with config.ini, whose end_id may have been edited.
  const Json json = parse_json(file->text(), file->path, {.code = ErrorCode::invalid_checkpoint});
  const Json ids = json.value("eos_token_id", Json());
  const Json wanted = ini_.integer("end_id", -1);
  const bool agrees = ids == wanted || (ids.is_array() && std::find(ids.begin(), ids.end(), wanted) != ids.end());
  return agrees ? file : std::nullopt;
}

}  // namespace bittern
