// The table of config.ini's keys and what follows from it: parsing (by inih), checking, writing, and the settings.
#include "tensor/config_ini.h"

#include <bittern/error.h>
#include <fmt/core.h>
#include <ini.h>

#include <array>
#include <charconv>
#include <cmath>
#include <vector>

#include "base/strings.h"

namespace bittern {
namespace {

enum class Type { integer, real, text };
enum class Role {
  fact,     // of the weights; it can be read, not chosen
  model,    // changes what the model computes
  run,      // changes how it is run
  neutral,  // LMDeploy's alone: only values without effect are taken
};

struct Key {
  std::string_view name;
  Type type;
  double low, high;
  Role role;
  std::string_view comment;
};

constexpr double kMost = 1e12;
constexpr std::array kKeys = {
    Key{"model_name", Type::text, 0, 0, Role::run, "a name for people"},
    Key{"tensor_para_size", Type::integer, 1, 1024, Role::fact, "parts the weights are split into"},
    Key{"head_num", Type::integer, 1, 1 << 20, Role::fact, "attention heads"},
    Key{"kv_head_num", Type::integer, 1, 1 << 20, Role::fact, "key and value heads"},
    Key{"size_per_head", Type::integer, 1, 4096, Role::fact, "width of a head"},
    Key{"vocab_size", Type::integer, 1, 1 << 24, Role::fact, "tokens"},
    Key{"num_layer", Type::integer, 1, 4096, Role::fact, "layers"},
    Key{"inter_size", Type::integer, 1, 1 << 20, Role::fact, "width of the MLP"},
    Key{"rotary_embedding", Type::integer, 1, 4096, Role::fact, "rotated part of a head"},
    Key{"attn_bias", Type::integer, 0, 1, Role::fact, "1: attention has biases"},
    Key{"weight_type", Type::text, 0, 0, Role::fact, "how most weights are stored"},
    Key{"group_size", Type::integer, 0, 1 << 20, Role::fact, "inputs that share a scale; 0: none"},
    Key{"start_id", Type::integer, -1, 1 << 24, Role::fact, "token before a text"},
    Key{"end_id", Type::integer, -1, 1 << 24, Role::model, "token that ends an answer"},
    Key{"norm_eps", Type::real, 0, 1, Role::model, "epsilon of the norms"},
    Key{"rope_theta", Type::real, 1e-9, 1e18, Role::model, "base of the rotary frequencies"},
    Key{"rope_scaling_factor", Type::real, 0, 1e6, Role::model,
        "above 0: dynamic NTK scaling by it past max_position_embeddings, in place of the model's own scaling"},
    Key{"max_position_embeddings", Type::integer, 0, 1 << 30, Role::model, "tokens the model was made for"},
    Key{"session_len", Type::integer, 1, 1 << 30, Role::run,
        "longest sequence; as written, it gives way to the memory there is, any other number must fit"},
    Key{"max_batch_size", Type::integer, 1, 4096, Role::run, "sequences run together"},
    Key{"num_tokens_per_iter", Type::integer, 0, 1 << 20, Role::run, "tokens of one step; 0: Bittern's default"},
    Key{"cache_max_entry_count", Type::real, 1e-6, kMost, Role::run,
        "below 1: part of the free memory the KV cache may take; from 1 on: its blocks"},
    Key{"cache_block_seq_len", Type::integer, 1, 4096, Role::run, "tokens of a KV block"},
    Key{"quant_policy", Type::integer, 0, 8, Role::run,
        "KV cache: 0 in 16 bits; 8, and as of old 4, in 8 bits (int4: --kv-cache int4)"},
    Key{"use_logn_attn", Type::integer, 0, 0, Role::neutral, "not supported: 0"},
    Key{"use_dynamic_ntk", Type::integer, 0, 1, Role::model, "1: dynamic NTK scaling (the oldest files)"},
    Key{"use_context_fmha", Type::integer, 0, 1, Role::neutral, "a choice of LMDeploy's CUDA kernels"},
    Key{"max_context_token_num", Type::integer, 1, 1, Role::neutral, "a buffer of LMDeploy's: 1"},
    Key{"step_length", Type::integer, 1, 1, Role::neutral, "of LMDeploy's scheduler: 1"},
    Key{"cache_chunk_size", Type::integer, -1, 1, Role::neutral, "of LMDeploy's allocator: 1 or -1"},
    Key{"max_prefill_iters", Type::integer, 1, 1, Role::neutral, "of LMDeploy's scheduler: 1"},
    Key{"extra_tokens_per_iter", Type::integer, 0, 0, Role::neutral, "of LMDeploy's scheduler: 0"},
};

const Key* find_key(std::string_view name) {
  for (const Key& key : kKeys) {
    if (key.name == name) return &key;
  }
  return nullptr;
}

std::vector<std::string_view> key_names() {
  std::vector<std::string_view> names;
  for (const Key& key : kKeys) names.push_back(key.name);
  return names;
}

[[noreturn]] void refuse(const std::string& path, const std::string& message, std::string hint = {}) {
  throw Error(ErrorCode::invalid_argument, path + ": " + message, std::move(hint));
}

bool parse_number(std::string_view text, double& value) {
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  return status == std::errc() && end == text.data() + text.size() && std::isfinite(value);
}

void check_value(const std::string& path, const Key& key, const std::string& value) {
  if (key.type == Type::text) {
    if (value.empty()) refuse(path, fmt::format("{} is empty", key.name));
    return;
  }
  double number = 0;
  const bool whole = key.type == Type::real || value.find_first_of(".eE") == std::string::npos;
  if (!parse_number(value, number) || !whole) {
    refuse(path, fmt::format("{} is '{}', but must be {}", key.name, value,
                             key.type == Type::integer ? "a whole number" : "a number"));
  }
  if (number >= key.low && number <= key.high) return;
  if (key.role == Role::neutral) {
    throw Error(ErrorCode::unsupported, fmt::format("{}: {} is {}: {}", path, key.name, value, key.comment),
                "Bittern has nothing that this could choose; remove the line");
  }
  refuse(path, fmt::format("{} is {}, outside {:g}..{:g}", key.name, value, key.low, key.high));
}

// --- reading, by inih ---

struct Entry {
  std::string section, key, value;
};

int collect(void* list, const char* section, const char* key, const char* value) {
  static_cast<std::vector<Entry>*>(list)->push_back({section, key, value == nullptr ? "" : value});
  return 1;
}

// The lines without what stands around them: inih takes an indented line for the last one's continuation.
std::string trimmed_lines(std::string_view text, const std::string& path) {
  constexpr std::size_t kLongest = 190;  // inih reads 200 bytes a line and would take the rest for another line
  std::string lines;
  int number = 1;
  for (const std::string_view line : split(text, '\n')) {
    if (line.size() > kLongest) refuse(path, fmt::format("line {} is longer than {} bytes", number, kLongest));
    lines += std::string(trim(line)) + "\n";
    ++number;
  }
  return lines;
}

std::vector<Entry> entries_of(std::string_view text, const std::string& path) {
  if (text.find('\0') != text.npos) refuse(path, "it holds zero bytes, so it is not a text file");
  std::vector<Entry> entries;
  const int line = ini_parse_string(trimmed_lines(text, path).c_str(), collect, &entries);
  if (line > 0) refuse(path, fmt::format("line {} is neither [section] nor key = value", line));
  if (line < 0) throw Error(ErrorCode::out_of_memory, path + ": cannot be parsed for want of memory");
  return entries;
}

// --- settings ---

void set_kv_cache(RunSettings& settings, std::int64_t policy, bool has_kv_params) {
  if (policy == 0) return;
  settings.kv_cache = policy == 4 && has_kv_params ? "int8-static" : "int8";
  if (policy != 4) return;
  settings.notices.push_back(
      std::string("quant_policy = 4 in config.ini means a KV cache in 8 bits, as it did in LMDeploy's workspaces") +
      (has_kv_params ? ", with the model's calibrated parameters (int8-static)"
                     : "; the model has no calibrated parameters, so each token is scaled by itself (int8)") +
      ". For 4 bits give --kv-cache int4");
}

}  // namespace

ConfigIni ConfigIni::parse(std::string_view text, const std::string& path) {
  ConfigIni ini;
  ini.path_ = path;
  for (const Entry& entry : entries_of(text, path)) {
    if (entry.section != "llama") {
      refuse(path, fmt::format("'{}' stands in section [{}]", entry.key, entry.section), "all keys belong in [llama]");
    }
    if (ini.values_.contains(entry.key)) refuse(path, entry.key + " is given twice");
    ini.set(entry.key, entry.value);
  }
  if (ini.values_.empty()) refuse(path, "it has no keys in a section [llama]");
  return ini;
}

void ConfigIni::set(const std::string& key, const std::string& value) {
  const Key* row = find_key(key);
  if (row == nullptr) {
    const std::vector<std::string_view> names = key_names();
    refuse(path_, "there is no key '" + key + "'", did_you_mean(key, names));
  }
  check_value(path_, *row, value);
  if (key == "quant_policy" && value != "0" && value != "4" && value != "8") {
    refuse(path_, "quant_policy is " + value + ", but must be 0, 4 or 8");
  }
  values_[key] = value;
}

std::int64_t ConfigIni::integer(std::string_view key, std::int64_t fallback) const {
  return static_cast<std::int64_t>(real(key, static_cast<double>(fallback)));
}

double ConfigIni::real(std::string_view key, double fallback) const {
  const auto found = values_.find(key);
  double value = fallback;
  if (found != values_.end()) parse_number(found->second, value);  // it was checked when it was set
  return value;
}

std::string ConfigIni::text(std::string_view key, const std::string& fallback) const {
  const auto found = values_.find(key);
  return found == values_.end() ? fallback : found->second;
}

std::int64_t ConfigIni::require_integer(std::string_view key) const {
  if (!has(key)) refuse(path_, std::string(key) + " is missing");
  return integer(key, 0);
}

std::string ConfigIni::format() const {
  std::string facts, settings;
  for (const Key& key : kKeys) {
    if (!has(key.name)) continue;
    const std::string line = fmt::format("{} = {}", key.name, values_.find(key.name)->second);
    if (key.role == Role::fact) {
      facts += fmt::format("{:<28}; {}\n", line, key.comment);
    } else {
      settings += fmt::format("; {}\n{}\n", key.comment, line);
    }
  }
  return "[llama]\n; Facts of the weights, not to be edited.\n" + facts +
         "\n; Settings: edit them, or remove a line for its default.\n" + settings;
}

bool ConfigIni::differs(std::string_view key, const ConfigIni& written) const {
  if (!has(key)) return false;
  const Key* row = find_key(key);
  if (!written.has(key) || row->type == Type::text) return text(key) != written.text(key);
  return real(key, 0) != written.real(key, 0);
}

void ConfigIni::check_facts(const ConfigIni& written) const {
  for (const Key& key : kKeys) {
    if (key.role != Role::fact || !differs(key.name, written)) continue;
    refuse(path_,
           fmt::format("{} is {}, but the weights have {}", key.name, text(key.name),
                       written.has(key.name) ? written.text(key.name) : "none"),
           "this key states a fact of the weights; put the old value back");
  }
}

RunSettings ConfigIni::run_settings(const ConfigIni& written, bool has_kv_params) const {
  RunSettings settings;
  const auto take = [&](const char* key, std::optional<std::int64_t>& to) {
    if (has(key)) to = integer(key, 0);
  };
  if (differs("session_len", written)) settings.context = integer("session_len", 0);
  take("max_batch_size", settings.max_sequences);
  take("cache_block_seq_len", settings.block_tokens);
  take("num_tokens_per_iter", settings.max_step_tokens);
  if (settings.max_step_tokens == 0) settings.max_step_tokens.reset();
  if (has("cache_max_entry_count")) {
    const double count = real("cache_max_entry_count", 0);
    if (count < 1) {
      settings.kv_cache_share = count;
    } else if (count == std::floor(count)) {
      settings.kv_cache_blocks = static_cast<std::int64_t>(count);
    } else {
      refuse(path_,
             fmt::format("cache_max_entry_count is {:g}: a part of the memory below 1, or a number of blocks", count));
    }
  }
  set_kv_cache(settings, integer("quant_policy", 0), has_kv_params);
  return settings;
}

}  // namespace bittern
