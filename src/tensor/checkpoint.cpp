// Opening a checkpoint: find its safetensors files, join them into one table of tensors, and put the reader of its
// quantization in front, chosen from a table by quant_method; anything else is refused by name.
#include "tensor/checkpoint.h"

#include <bittern/error.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "base/buffer.h"
#include "tensor/awq_checkpoint.h"
#include "tensor/compressed_checkpoint.h"
#include "tensor/fp8_checkpoint.h"
#include "tensor/gguf_model.h"
#include "tensor/gptq_checkpoint.h"
#include "tensor/header_json.h"
#include "tensor/lmdeploy_workspace.h"
#include "tensor/quote_name.h"
#include "tensor/safetensors.h"
#include "tensor/workspace.h"

namespace bittern {
namespace {

constexpr std::string_view kSingle = "model.safetensors";
constexpr std::string_view kIndex = "model.safetensors.index.json";

/// A row per quant_method: puts its reader in front of the plain checkpoint.
struct Opener {
  std::string_view method;
  std::unique_ptr<Checkpoint> (*open)(std::unique_ptr<Checkpoint> plain, const Json& config);
};

std::unique_ptr<Checkpoint> open_awq(std::unique_ptr<Checkpoint> plain, const Json& config) {
  return open_awq_checkpoint(std::move(plain), parse_awq_config(config));
}

constexpr Opener kOpeners[] = {
    {"awq", open_awq},
    {"gptq", open_gptq_checkpoint},
    {"compressed-tensors", open_compressed_checkpoint},
    {"fp8", open_fp8_checkpoint},
};

const Opener* find_opener(std::string_view method) {
  for (const Opener& row : kOpeners) {
    if (row.method == method) return &row;
  }
  return nullptr;
}

std::string readable() {
  std::string text = "Bittern reads unquantized checkpoints and quant_method ";
  for (const Opener& row : kOpeners) {
    text += (&row == kOpeners ? "'" : ", '") + std::string(row.method) + "'";
  }
  return text;
}

[[noreturn]] void refuse(const std::string& message) { throw Error(ErrorCode::invalid_checkpoint, message); }

// --- the plain checkpoint: one table over all files ---

class DenseCheckpoint final : public Checkpoint {
 public:
  explicit DenseCheckpoint(std::vector<SafetensorsFile> files) {
    for (SafetensorsFile& file : files) {
      for (SafetensorsEntry& entry : file.entries) add(std::move(entry), file.bytes.keep);
    }
    for (const auto& [name, tensor] : tensors_) entries_.push_back(tensor.entry);
  }

  const std::vector<TensorEntry>& entries() const override { return entries_; }
  bool contains(std::string_view tensor) const override { return tensors_.contains(tensor); }
  bool has_linear(std::string_view module) const override { return contains(std::string(module) + ".weight"); }
  Weight dense(std::string_view tensor) const override;

  Weight linear(std::string_view module, std::vector<std::string>& used) const override {
    const std::string key = std::string(module) + ".weight";
    Weight weight = dense(key);
    used.push_back(key);
    weight.name = std::string(module);
    return weight;
  }

 private:
  struct Placed {
    SafetensorsEntry entry;
    std::shared_ptr<const void> keep;
  };

  void add(SafetensorsEntry entry, const std::shared_ptr<const void>& keep) {
    const auto [place, added] = tensors_.try_emplace(entry.name, Placed{entry, keep});
    if (!added)
      refuse("tensor " + quote_name(entry.name) + " is in both " + place->second.entry.file + " and " + entry.file);
  }

  std::map<std::string, Placed, std::less<>> tensors_;
  std::vector<TensorEntry> entries_;
};

// The bytes as elements: the file's own when they are aligned, otherwise a copy (the format does not promise
// alignment).
const void* aligned_data(const SafetensorsEntry& entry, Weight& owner) {
  const auto address = reinterpret_cast<std::uintptr_t>(entry.data.data());
  if (entry.data.empty() || address % dtype_size(*entry.dtype) == 0) return entry.data.data();
  auto copy = std::make_shared<AlignedBuffer>(entry.data.size());
  std::memcpy(copy->data(), entry.data.data(), entry.data.size());
  owner.keep.push_back(copy);
  return copy->data();
}

Weight DenseCheckpoint::dense(std::string_view tensor) const {
  const auto found = tensors_.find(tensor);
  if (found == tensors_.end()) {
    throw Error(ErrorCode::not_found, "the checkpoint has no tensor " + quote_name(tensor));
  }
  const SafetensorsEntry& entry = found->second.entry;
  if (!entry.dtype) {
    throw Error(ErrorCode::unsupported, entry.file + ": tensor " + quote_name(entry.name) + " has element type " +
                                            quote_name(entry.dtype_name) + ", which Bittern does not read");
  }
  Weight weight;
  weight.name = entry.name;
  weight.format = Format::dense(*entry.dtype);
  weight.out = entry.shape.empty() ? 1 : entry.shape[0];
  weight.in = 1;
  for (std::size_t i = 1; i < entry.shape.size(); ++i) weight.in *= entry.shape[i];
  if (found->second.keep) weight.keep.push_back(found->second.keep);
  // Tensor has no const form; weights are never written through.
  weight.data = Tensor::of(const_cast<void*>(aligned_data(entry, weight)), *entry.dtype, weight.out, weight.in);
  return weight;
}

// --- finding the files ---

void check_shard_name(const std::string& shard, const std::string& index_path) {
  const bool plain = shard.find_first_of(std::string_view("/\\\0", 3)) == shard.npos && shard != "." && shard != "..";
  if (plain && shard.ends_with(".safetensors")) return;
  refuse(index_path + ": " + quote_name(shard) + " is not the name of a safetensors file beside it");
}

// tensor -> shard, from model.safetensors.index.json.
std::map<std::string, std::string> read_weight_map(const FileBytes& index) {
  const Json json = parse_header_json(index.text(), index.path);
  const auto map = json.find("weight_map");
  if (map == json.end() || !map->is_object()) refuse(index.path + ": has no object 'weight_map'");
  std::map<std::string, std::string> shard_of;
  for (const auto& [tensor, shard] : map->items()) {
    if (!shard.is_string())
      refuse(index.path + ": the shard of " + quote_name(tensor) + " must be a string, found " + describe_json(shard));
    check_shard_name(shard.get_ref<const std::string&>(), index.path);
    shard_of[tensor] = shard.get<std::string>();
  }
  if (shard_of.empty()) refuse(index.path + ": names no tensors");
  return shard_of;
}

void check_shards(const std::map<std::string, SafetensorsFile>& shards,
                  const std::map<std::string, std::string>& shard_of, const std::string& index_path) {
  std::map<std::string, std::vector<std::string>> held;
  for (const auto& [shard, file] : shards) {
    for (const SafetensorsEntry& entry : file.entries) held[shard].push_back(entry.name);
    std::sort(held[shard].begin(), held[shard].end());
  }
  for (const auto& [tensor, shard] : shard_of) {
    const std::vector<std::string>& names = held[shard];
    if (!std::binary_search(names.begin(), names.end(), tensor)) {
      refuse(index_path + ": says that " + quote_name(tensor) + " is in " + shard + ", but it is not there");
    }
  }
}

std::vector<SafetensorsFile> read_shards(const ModelFiles& files, const FileBytes& index) {
  const std::map<std::string, std::string> shard_of = read_weight_map(index);
  std::map<std::string, SafetensorsFile> shards;
  for (const auto& [tensor, shard] : shard_of) {
    if (shards.contains(shard)) continue;
    std::optional<FileBytes> file = files.find(shard);
    if (!file) {
      throw Error(ErrorCode::not_found,
                  index.path + ": names " + shard + " (for " + quote_name(tensor) + "), which is missing",
                  "download the whole checkpoint");
    }
    shards[shard] = read_safetensors(*std::move(file));
  }
  check_shards(shards, shard_of, index.path);
  std::vector<SafetensorsFile> list;
  for (auto& [shard, file] : shards) list.push_back(std::move(file));
  return list;
}

[[noreturn]] void refuse_no_weights(const ModelFiles& files) {
  std::string hint = "a checkpoint in safetensors format is needed";
  for (const std::string& name : files.list()) {
    if (name.ends_with(".bin") || name.ends_with(".pth")) hint = "convert " + name + " to safetensors first";
  }
  throw Error(ErrorCode::not_found,
              files.origin() + " has neither " + std::string(kSingle) + " nor " + std::string(kIndex), hint);
}

std::vector<SafetensorsFile> read_files(const ModelFiles& files) {
  std::vector<SafetensorsFile> list;
  if (std::optional<FileBytes> single = files.find(kSingle)) {
    list.push_back(read_safetensors(*std::move(single)));
    return list;
  }
  if (const std::optional<FileBytes> index = files.find(kIndex)) return read_shards(files, *index);
  refuse_no_weights(files);
}

std::string quant_method(const Json& config) {
  if (!config.is_object()) refuse("quantization_config must be an object, found " + describe_json(config));
  const auto method = config.find("quant_method");
  if (method == config.end() || !method->is_string()) {
    throw Error(ErrorCode::unsupported, "quantization_config has no quant_method", readable());
  }
  return method->get<std::string>();
}

}  // namespace

Weight Checkpoint::table(std::string_view module, std::vector<std::string>& used) const {
  used.push_back(std::string(module) + ".weight");
  return dense(used.back());
}

std::optional<SavedPacking> Checkpoint::packing(std::string_view, std::vector<std::string>&) const {
  return std::nullopt;
}

std::unique_ptr<Checkpoint> open_checkpoint(const std::shared_ptr<const ModelFiles>& files,
                                            const Json& quantization_config) {
  if (auto gguf = std::dynamic_pointer_cast<const GgufModelFiles>(files)) return open_gguf_checkpoint(std::move(gguf));
  if (auto workspace = std::dynamic_pointer_cast<const WorkspaceFiles>(files)) {
    return open_workspace_checkpoint(std::move(workspace));
  }
  if (auto lmdeploy = std::dynamic_pointer_cast<const LmdeployFiles>(files)) {
    return open_lmdeploy_checkpoint(std::move(lmdeploy));
  }
  if (quantization_config.is_null()) return std::make_unique<DenseCheckpoint>(read_files(*files));
  const std::string method = quant_method(quantization_config);
  const Opener* opener = find_opener(method);
  if (!opener) {
    throw Error(ErrorCode::unsupported, files->origin() + ": quant_method " + quote_name(method) + " is not supported",
                readable());
  }
  return opener->open(std::make_unique<DenseCheckpoint>(read_files(*files)), quantization_config);
}

}  // namespace bittern
