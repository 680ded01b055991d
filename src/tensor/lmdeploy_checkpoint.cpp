// The tensors of an LMDeploy workspace under a checkpoint's names. A file holds a matrix as (in, out); q, k and v of
// one part lie side by side, and the rows of q and k heads alternate between the halves that rotation pairs.
#include <bittern/error.h>

#include <algorithm>
#include <cstring>

#include "base/mmap_file.h"
#include "tensor/lmdeploy_workspace.h"
#include "tensor/quote_name.h"

namespace bittern {
namespace {

namespace fs = std::filesystem;

/// A linear as it lies in the files `stem`.0.weight and so on.
struct Source {
  std::string stem;
  std::int64_t out = 0, in = 0;
  bool split_inputs = false;      // parts hold rows of the file (inputs), not columns (outputs)
  std::int64_t file_columns = 0;  // of one part, where others share its columns
  /// Part and column of each output; empty: all columns in order (split_inputs).
  std::vector<std::pair<int, std::int64_t>> columns;
};

DType dtype_of(const std::string& weight_type) {
  return weight_type == "bf16" ? DType::bf16 : weight_type == "fp32" ? DType::f32 : DType::f16;
}

class LmdeployCheckpoint final : public Checkpoint {
 public:
  explicit LmdeployCheckpoint(std::shared_ptr<const LmdeployFiles> files);

  const std::vector<TensorEntry>& entries() const override { return entries_; }
  bool contains(std::string_view tensor) const override {
    return std::any_of(entries_.begin(), entries_.end(), [&](const TensorEntry& e) { return e.name == tensor; });
  }
  bool has_linear(std::string_view module) const override { return contains(std::string(module) + ".weight"); }
  Weight dense(std::string_view tensor) const override;
  Weight linear(std::string_view module, std::vector<std::string>& used) const override {
    used.push_back(std::string(module) + ".weight");
    Weight weight = dense(used.back());
    weight.name = std::string(module);
    return weight;
  }

 private:
  void add_table(const std::string& name, const std::string& file);
  void add_vector(const std::string& name, const std::string& file, std::int64_t size);
  void add_layer(std::int64_t layer);
  void add_attention(const std::string& from, const std::string& to);
  void add_linear(const std::string& name, Source source);
  void add_biases(const std::string& from, const std::string& to, const std::vector<Source>& qkv);
  std::string part_file(const std::string& stem, std::int64_t part, const char* extension) const;
  void expect_size(const std::string& file, std::int64_t elements);
  void refuse_wrong_files() const;
  MmapFile open(const std::string& file) const { return MmapFile(files_->weights_dir() / file); }
  Weight read_linear(const std::string& name, const Source& source) const;
  Weight read_vector(const std::string& name) const;

  /// A vector, or a bias gathered out of the fused one.
  struct VectorSource {
    std::string stem;  // file, or the stem of one per part when `columns` is not empty
    std::int64_t size = 0;
    std::vector<std::pair<int, std::int64_t>> columns;
  };

  std::shared_ptr<const LmdeployFiles> files_;
  DType dtype_;
  std::int64_t parts_, heads_, kv_heads_, dim_, hidden_, inter_, vocab_;
  std::map<std::string, Source, std::less<>> linears_;
  std::map<std::string, VectorSource, std::less<>> vectors_;
  std::map<std::string, std::string, std::less<>> tables_;  // name -> file
  std::vector<TensorEntry> entries_;
  std::vector<std::string> missing_, wrong_;
};

LmdeployCheckpoint::LmdeployCheckpoint(std::shared_ptr<const LmdeployFiles> files) : files_(std::move(files)) {
  const ConfigIni& ini = files_->config_ini();
  dtype_ = dtype_of(ini.text("weight_type", "fp16"));
  parts_ = ini.integer("tensor_para_size", 1);
  heads_ = ini.require_integer("head_num");
  kv_heads_ = ini.integer("kv_head_num", heads_);
  dim_ = ini.require_integer("size_per_head");
  hidden_ = heads_ * dim_;
  inter_ = ini.require_integer("inter_size");
  vocab_ = ini.require_integer("vocab_size");
  add_table("model.embed_tokens.weight", "tok_embeddings.weight");
  add_table("lm_head.weight", "output.weight");
  add_vector("model.norm.weight", "norm.weight", hidden_);
  for (std::int64_t layer = 0; layer < ini.require_integer("num_layer"); ++layer) add_layer(layer);
  refuse_wrong_files();
  std::sort(entries_.begin(), entries_.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
}

// Parts are numbered even when there is one; the loader of LMDeploy took a file without a number too.
std::string LmdeployCheckpoint::part_file(const std::string& stem, std::int64_t part, const char* extension) const {
  const std::string numbered = stem + "." + std::to_string(part) + extension;
  std::error_code ignored;
  if (parts_ == 1 && !fs::exists(files_->weights_dir() / numbered, ignored)) return stem + extension;
  return numbered;
}

void LmdeployCheckpoint::expect_size(const std::string& file, std::int64_t elements) {
  std::error_code failure;
  const auto size = fs::file_size(files_->weights_dir() / file, failure);
  const auto wanted = static_cast<std::uint64_t>(elements) * dtype_size(dtype_);
  if (failure) {
    missing_.push_back(file);
  } else if (size != wanted) {
    wrong_.push_back(file + " (" + std::to_string(size) + " bytes, config.ini asks for " + std::to_string(wanted) +
                     ")");
  }
}

void LmdeployCheckpoint::refuse_wrong_files() const {
  const bool lacking = !missing_.empty();
  const std::vector<std::string>& list = lacking ? missing_ : wrong_;
  if (list.empty()) return;
  constexpr std::size_t kShown = 4;
  std::string text;
  for (std::size_t i = 0; i < std::min(kShown, list.size()); ++i) text += (i ? ", " : "") + list[i];
  if (list.size() > kShown) text += ", and " + std::to_string(list.size() - kShown) + " more";
  throw Error(ErrorCode::invalid_checkpoint,
              files_->weights_dir().string() + (lacking ? " lacks " : " has files of another size: ") + text,
              "config.ini and the weights do not belong together, or the copy is incomplete");
}

// Tables are not transposed; rows past the vocabulary fill it up to a multiple of the parts.
void LmdeployCheckpoint::add_table(const std::string& name, const std::string& file) {
  const std::int64_t padded = (vocab_ + parts_ - 1) / parts_ * parts_;
  std::error_code failure;
  const auto size = fs::file_size(files_->weights_dir() / file, failure);
  const auto unpadded_bytes = static_cast<std::uint64_t>(vocab_ * hidden_) * dtype_size(dtype_);
  if (failure || size != unpadded_bytes) expect_size(file, padded * hidden_);
  tables_[name] = file;
  TensorEntry entry{name, std::string(safetensors_dtype_name(dtype_)), dtype_, {vocab_, hidden_}, file, 0};
  entry.bytes = static_cast<std::uint64_t>(vocab_ * hidden_) * dtype_size(dtype_);
  entries_.push_back(std::move(entry));
}

void LmdeployCheckpoint::add_vector(const std::string& name, const std::string& file, std::int64_t size) {
  expect_size(file, size);
  vectors_[name] = {file, size, {}};
  entries_.push_back({name,
                      std::string(safetensors_dtype_name(dtype_)),
                      dtype_,
                      {size},
                      file,
                      static_cast<std::uint64_t>(size) * dtype_size(dtype_)});
}

void LmdeployCheckpoint::add_linear(const std::string& name, Source source) {
  entries_.push_back({name,
                      std::string(safetensors_dtype_name(dtype_)),
                      dtype_,
                      {source.out, source.in},
                      source.stem,
                      static_cast<std::uint64_t>(source.out * source.in) * dtype_size(dtype_)});
  linears_[name] = std::move(source);
}

void LmdeployCheckpoint::add_layer(std::int64_t layer) {
  const std::string from = "layers." + std::to_string(layer) + ".", to = "model." + from;
  add_attention(from + "attention.", to + "self_attn.");
  const std::int64_t width = inter_ / parts_;
  for (const auto& [file, name] : {std::pair{"w1", "gate_proj"}, std::pair{"w3", "up_proj"}}) {
    Source source{from + "feed_forward." + file, inter_, hidden_, false, width, {}};
    for (std::int64_t o = 0; o < inter_; ++o) source.columns.emplace_back(static_cast<int>(o / width), o % width);
    for (std::int64_t p = 0; p < parts_; ++p) expect_size(part_file(source.stem, p, ".weight"), hidden_ * width);
    add_linear(to + "mlp." + name + ".weight", std::move(source));
  }
  Source down{from + "feed_forward.w2", hidden_, inter_, true, hidden_, {}};
  for (std::int64_t p = 0; p < parts_; ++p) expect_size(part_file(down.stem, p, ".weight"), width * hidden_);
  add_linear(to + "mlp.down_proj.weight", std::move(down));
  add_vector(to + "input_layernorm.weight", from + "attention_norm.weight", hidden_);
  add_vector(to + "post_attention_layernorm.weight", from + "ffn_norm.weight", hidden_);
}

void LmdeployCheckpoint::add_attention(const std::string& from, const std::string& to) {
  const std::int64_t q = heads_ / parts_, kv = kv_heads_ / parts_, width = (q + 2 * kv) * dim_;
  // Output `o` of a projection whose heads, `count` in a part, begin at head `first` of the part's fused columns.
  const auto projection = [&](std::int64_t count, std::int64_t first, bool rotated) {
    Source source{from + "w_qkv", count * parts_ * dim_, hidden_, false, width, {}};
    for (std::int64_t o = 0; o < source.out; ++o) {
      const std::int64_t head = o / dim_, at = o % dim_;
      const std::int64_t place = rotated ? at % (dim_ / 2) * 2 + at / (dim_ / 2) : at;
      source.columns.emplace_back(static_cast<int>(head / count), (first + head % count) * dim_ + place);
    }
    return source;
  };
  const std::vector<Source> qkv = {projection(q, 0, true), projection(kv, q, true), projection(kv, q + kv, false)};
  for (std::int64_t p = 0; p < parts_; ++p) {
    expect_size(part_file(from + "w_qkv", p, ".weight"), hidden_ * width);
    expect_size(part_file(from + "wo", p, ".weight"), hidden_ / parts_ * hidden_);
  }
  if (files_->config_ini().integer("attn_bias", 0) != 0) add_biases(from, to, qkv);
  add_linear(to + "q_proj.weight", qkv[0]);
  add_linear(to + "k_proj.weight", qkv[1]);
  add_linear(to + "v_proj.weight", qkv[2]);
  add_linear(to + "o_proj.weight", {from + "wo", hidden_, hidden_, true, hidden_, {}});
}

void LmdeployCheckpoint::add_biases(const std::string& from, const std::string& to, const std::vector<Source>& qkv) {
  constexpr const char* kNames[] = {"q_proj.bias", "k_proj.bias", "v_proj.bias"};
  for (std::int64_t p = 0; p < parts_; ++p) expect_size(part_file(from + "w_qkv", p, ".bias"), qkv[0].file_columns);
  for (std::size_t i = 0; i < 3; ++i) {
    vectors_[to + kNames[i]] = {from + "w_qkv", qkv[i].out, qkv[i].columns};
    entries_.push_back({to + kNames[i],
                        std::string(safetensors_dtype_name(dtype_)),
                        dtype_,
                        {qkv[i].out},
                        from + "w_qkv",
                        static_cast<std::uint64_t>(qkv[i].out) * dtype_size(dtype_)});
  }
  // Every part has a copy of the bias of a matrix that is split along its inputs.
  std::error_code ignored;
  for (const std::string& file : {from + "wo.0.bias", from + "wo.bias"}) {
    if (fs::exists(files_->weights_dir() / file, ignored)) return add_vector(to + "o_proj.bias", file, hidden_);
  }
}

/// Columns of (in, columns) files to rows of (out, in), some outputs at a time so that lines of the file are used
/// whole.
template <class T>
void transpose(const Source& source, const std::vector<MmapFile>& parts, T* to) {
  constexpr std::int64_t kBlock = 32;
  const std::int64_t part_rows = source.split_inputs ? source.in / static_cast<std::int64_t>(parts.size()) : source.in;
  for (std::int64_t begin = 0; begin < source.out; begin += kBlock) {
    const std::int64_t end = std::min(source.out, begin + kBlock);
    for (std::int64_t i = 0; i < source.in; ++i) {
      for (std::int64_t o = begin; o < end; ++o) {
        const auto part = source.split_inputs
                              ? static_cast<std::size_t>(i / part_rows)
                              : static_cast<std::size_t>(source.columns[static_cast<std::size_t>(o)].first);
        const std::int64_t column = source.split_inputs ? o : source.columns[static_cast<std::size_t>(o)].second;
        const T* file = reinterpret_cast<const T*>(parts[part].bytes().data());
        to[o * source.in + i] = file[i % part_rows * source.file_columns + column];
      }
    }
  }
}

Weight LmdeployCheckpoint::read_linear(const std::string& name, const Source& source) const {
  std::vector<MmapFile> parts;
  for (std::int64_t p = 0; p < parts_; ++p) parts.push_back(open(part_file(source.stem, p, ".weight")));
  Weight weight = Weight::allocate(name, Format::dense(dtype_), source.out, source.in);
  if (dtype_ == DType::f32) {
    transpose(source, parts, weight.data.as<std::uint32_t>());
  } else {
    transpose(source, parts, weight.data.as<std::uint16_t>());
  }
  return weight;
}

Weight LmdeployCheckpoint::read_vector(const std::string& name) const {
  const VectorSource& source = vectors_.find(name)->second;
  const std::size_t size = dtype_size(dtype_);
  Weight weight = Weight::allocate(name, Format::dense(dtype_), source.size, 1);
  if (source.columns.empty()) {
    std::memcpy(weight.data.data, open(source.stem).bytes().data(), static_cast<std::size_t>(source.size) * size);
    return weight;
  }
  std::vector<MmapFile> parts;
  for (std::int64_t p = 0; p < parts_; ++p) parts.push_back(open(part_file(source.stem, p, ".bias")));
  for (std::size_t o = 0; o < source.columns.size(); ++o) {
    const auto& [part, column] = source.columns[o];
    std::memcpy(weight.data.as<std::byte>() + o * size,
                parts[static_cast<std::size_t>(part)].bytes().data() + static_cast<std::size_t>(column) * size, size);
  }
  return weight;
}

Weight LmdeployCheckpoint::dense(std::string_view tensor) const {
  if (const auto linear = linears_.find(tensor); linear != linears_.end()) {
    return read_linear(linear->first, linear->second);
  }
  if (vectors_.contains(tensor)) return read_vector(std::string(tensor));
  const auto table = tables_.find(tensor);
  if (table == tables_.end()) {
    throw Error(ErrorCode::not_found, "the workspace has no tensor " + quote_name(tensor));
  }
  auto file = std::make_shared<MmapFile>(files_->weights_dir() / table->second);
  Weight weight;
  weight.name = std::string(tensor);
  weight.format = Format::dense(dtype_);
  weight.out = vocab_;
  weight.in = hidden_;
  weight.data = Tensor::of(const_cast<std::byte*>(file->bytes().data()), dtype_, vocab_, hidden_);
  weight.keep.push_back(std::move(file));
  return weight;
}

}  // namespace

std::unique_ptr<Checkpoint> open_lmdeploy_checkpoint(std::shared_ptr<const LmdeployFiles> files) {
  return std::make_unique<LmdeployCheckpoint>(std::move(files));
}

}  // namespace bittern
