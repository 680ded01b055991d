// Names and places of tensors are settled when the checkpoint is opened; weights are decoded when asked for.
#include "tensor/gguf_model.h"

#include <bittern/error.h>

#include <algorithm>
#include <array>

#include "base/mmap_file.h"
#include "tensor/convert.h"
#include "tensor/gguf_blocks.h"
#include "tensor/gguf_config.h"
#include "tensor/gguf_names.h"
#include "tensor/gguf_tokenizer.h"
#include "tensor/quote_name.h"

namespace bittern {
namespace {

constexpr std::array<std::string_view, 4> kFiles = {"config.json", "generation_config.json", "tokenizer.json",
                                                    "tokenizer_config.json"};
// Tensors that gguf_config reads.
constexpr std::array<std::string_view, 3> kConfiguration = {"rope_freqs.weight", "rope_factors_long.weight",
                                                            "rope_factors_short.weight"};

std::optional<DType> dense_dtype(std::uint32_t type) {
  if (type == static_cast<std::uint32_t>(GgufType::f32)) return DType::f32;
  if (type == static_cast<std::uint32_t>(GgufType::f16)) return DType::f16;
  if (type == static_cast<std::uint32_t>(GgufType::bf16)) return DType::bf16;
  return std::nullopt;
}

class GgufCheckpoint final : public Checkpoint {
 public:
  explicit GgufCheckpoint(std::shared_ptr<const GgufModelFiles> files)
      : files_(std::move(files)), architecture_(gguf_architecture(files_->gguf().metadata)) {
    const Json config = gguf_config(files_->gguf());
    heads_ = config.at("num_attention_heads").get<std::int64_t>();
    kv_heads_ = config.at("num_key_value_heads").get<std::int64_t>();
    for (const GgufTensor& tensor : files_->gguf().tensors) add(tensor);
    for (const auto& [key, tensor] : tensors_) entries_.push_back(entry(key, *tensor));
  }

  const std::vector<TensorEntry>& entries() const override { return entries_; }
  bool contains(std::string_view tensor) const override { return tensors_.contains(tensor); }
  bool has_linear(std::string_view module) const override { return contains(std::string(module) + ".weight"); }

  Weight dense(std::string_view tensor) const override {
    Weight weight = read(tensor);
    return weight.format.kind == FormatKind::dense ? weight : to_f32(weight);
  }

  Weight linear(std::string_view module, std::vector<std::string>& used) const override {
    const std::string key = std::string(module) + ".weight";
    Weight weight = read(key);
    used.push_back(key);
    weight.name = std::string(module);
    return weight;
  }

  Weight table(std::string_view module, std::vector<std::string>& used) const override { return linear(module, used); }

 private:
  void add(const GgufTensor& tensor) {
    if (std::find(kConfiguration.begin(), kConfiguration.end(), tensor.name) != kConfiguration.end()) return;
    const auto key = gguf_to_checkpoint_name(architecture_.name, tensor.name);
    // A tensor without a translation keeps its name, and the loader reports it as unused.
    if (!tensors_.try_emplace(key.value_or(tensor.name), &tensor).second) {
      throw Error(ErrorCode::invalid_checkpoint,
                  files_->origin() + ": two tensors stand for " + quote_name(key.value_or(tensor.name)));
    }
  }

  TensorEntry entry(const std::string& key, const GgufTensor& tensor) const {
    const std::vector<std::int64_t> shape(tensor.dims.rbegin(), tensor.dims.rend());
    return {key, gguf_type_name(tensor.type), dense_dtype(tensor.type), shape, files_->origin(), tensor.bytes.size()};
  }

  Weight read(std::string_view key) const {
    const auto found = tensors_.find(key);
    if (found == tensors_.end()) {
      throw Error(ErrorCode::not_found, "the checkpoint has no tensor " + quote_name(key));
    }
    const GgufTensor& tensor = *found->second;
    const GgufTypeInfo* info = gguf_type_info(tensor.type);
    if (!info || info->block_bytes == 0) {
      throw Error(ErrorCode::unsupported,
                  files_->origin() + ": tensor " + quote_name(tensor.name) + " has type " +
                      gguf_type_name(tensor.type) + ", which Bittern does not read",
                  "it reads F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K, IQ4_NL and MXFP4");
    }
    std::int64_t rows = 1;
    for (std::size_t i = 1; i < tensor.dims.size(); ++i) rows *= tensor.dims[i];
    const bool vector = tensor.dims.size() == 1;
    const auto type = static_cast<GgufType>(tensor.type);
    if (vector && !dense_dtype(tensor.type)) {
      throw Error(ErrorCode::unsupported, files_->origin() + ": vector " + quote_name(tensor.name) + " is quantized");
    }
    Weight weight = decode_gguf_blocks(std::string(key), type, vector ? tensor.dims[0] : rows,
                                       vector ? 1 : tensor.dims[0], tensor.bytes);
    weight.keep.push_back(files_);
    return restore(std::move(weight));
  }

  Weight restore(Weight weight) const {
    const std::string& key = weight.name;
    if (architecture_.norm_plus_one && key.ends_with("norm.weight")) return without_one(weight);
    if (!architecture_.permuted_heads) return weight;
    if (key.find(".self_attn.q_proj.") != key.npos) return unpermute(weight, heads_);
    if (key.find(".self_attn.k_proj.") != key.npos) return unpermute(weight, kv_heads_);
    return weight;
  }

  static Weight without_one(const Weight& weight) {
    Weight shifted = Weight::allocate(weight.name, Format::dense(DType::f32), weight.out, weight.in);
    const Weight values = to_f32(weight);
    for (std::int64_t i = 0; i < weight.out; ++i) shifted.data.as<float>()[i] = values.data.as<float>()[i] - 1.0F;
    return shifted;
  }

  // GGUF interleaves the two halves of each head: its row 2j + s is the checkpoint's s * half + j.
  Weight unpermute(const Weight& weight, std::int64_t heads) const {
    if (heads <= 0 || weight.out % (2 * heads) != 0) {
      throw Error(ErrorCode::invalid_checkpoint, files_->origin() + ": " + weight.name + " has " +
                                                     std::to_string(weight.out) + " rows for " + std::to_string(heads) +
                                                     " heads");
    }
    const std::int64_t width = weight.out / heads, half = width / 2;
    std::vector<std::int64_t> order(static_cast<std::size_t>(weight.out));
    for (std::int64_t row = 0; row < weight.out; ++row) {
      const std::int64_t head = row / width, side = row % width / half, j = row % half;
      order[static_cast<std::size_t>(row)] = head * width + 2 * j + side;
    }
    return reorder_rows(weight, order);
  }

  std::shared_ptr<const GgufModelFiles> files_;
  const GgufArchitecture& architecture_;
  std::int64_t heads_ = 0;
  std::int64_t kv_heads_ = 0;
  std::map<std::string, const GgufTensor*, std::less<>> tensors_;
  std::vector<TensorEntry> entries_;
};

}  // namespace

GgufModelFiles::GgufModelFiles(FileBytes file) : file_(read_gguf(std::move(file))) {}

std::vector<std::string> GgufModelFiles::list() const { return {kFiles.begin(), kFiles.end()}; }

std::string GgufModelFiles::make(std::string_view name) const {
  if (name == "config.json") return gguf_config(file_).dump();
  if (name == "generation_config.json") return gguf_generation_config(file_.metadata).dump();
  if (name == "tokenizer.json") return gguf_tokenizer_json(file_.metadata).dump();
  return gguf_tokenizer_config(file_.metadata).dump();
}

std::optional<FileBytes> GgufModelFiles::find(std::string_view name) const {
  if (std::find(kFiles.begin(), kFiles.end(), name) == kFiles.end()) return std::nullopt;
  const std::lock_guard lock(mutex_);
  auto found = made_.find(name);
  if (found == made_.end()) {
    found = made_.emplace(name, std::make_shared<const std::string>(make(name))).first;
  }
  const std::shared_ptr<const std::string>& text = found->second;
  return FileBytes{origin() + " (" + std::string(name) + ")", std::as_bytes(std::span(*text)), text};
}

std::shared_ptr<const ModelFiles> open_gguf(const std::filesystem::path& path) {
  auto file = std::make_shared<MmapFile>(path);
  const std::span<const std::byte> bytes = file->bytes();
  return std::make_shared<GgufModelFiles>(FileBytes{path.string(), bytes, std::move(file)});
}

std::unique_ptr<Checkpoint> open_gguf_checkpoint(std::shared_ptr<const GgufModelFiles> files) {
  return std::make_unique<GgufCheckpoint>(std::move(files));
}

}  // namespace bittern
