// Checks first, then metadata, then tensors in chunks of rows on all threads.
#include "models/gguf_export.h"

#include <bittern/error.h>

#include <algorithm>
#include <cmath>

#include "base/thread_pool.h"
#include "models/model.h"
#include "tensor/checkpoint.h"
#include "tensor/convert.h"
#include "tensor/gguf_config.h"
#include "tensor/gguf_names.h"
#include "tensor/gguf_quantize.h"
#include "tensor/gguf_writer.h"
#include "tensor/quote_name.h"

namespace bittern {
namespace {

using Kind = nn::RopeConfig::Kind;

[[noreturn]] void refuse(const std::string& what) {
  throw Error(ErrorCode::unsupported, "GGUF has no place for " + what, "keep the Hugging Face checkpoint");
}

// --- what the file could not say ---

void check_windows(const ModelConfig& config, std::string_view architecture) {
  for (std::size_t i = 0; i < config.layer_windows.size(); ++i) {
    const bool local = architecture == "phi3" || (architecture == "gemma2" && i % 2 == 0);
    if (config.layer_windows[i] != (local ? config.window : 0)) {
      refuse("the sliding window of layer " + std::to_string(i) + " in architecture " + std::string(architecture));
    }
  }
}

void check_attention(const ModelConfig& config, std::string_view architecture) {
  const bool gemma2 = architecture == "gemma2";
  const int divisor = gemma2 && config.layers == 46 ? config.hidden / config.heads : config.head_dim;
  if (std::fabs(config.attention_scale * std::sqrt(static_cast<double>(divisor)) - 1.0) > 1e-6) {
    refuse("an attention scale of " + std::to_string(config.attention_scale));
  }
  if (gemma2 && (config.attention_softcap <= 0 || config.final_softcap <= 0)) refuse("Gemma 2 without soft caps");
  if (config.activation != (gemma2 ? Activation::gelu_tanh : Activation::silu)) refuse("this activation function");
}

void check_rope(const ModelConfig& config, const GgufArchitecture& architecture) {
  const nn::RopeConfig& rope = config.rope;
  if (rope.kind == Kind::dynamic) refuse("rope type 'dynamic'");
  const nn::RopeConfig usual;
  const bool plain_yarn = rope.beta_fast == usual.beta_fast && rope.beta_slow == usual.beta_slow && rope.mscale == 0 &&
                          rope.mscale_all_dim == 0 && rope.truncate && rope.attention_factor < 0;
  if (rope.kind == Kind::yarn && !plain_yarn) refuse("YaRN's optional parameters");
  if (architecture.permuted_heads && config.rotary_dim != config.head_dim) refuse("rotation of a part of each head");
}

const GgufArchitecture& check(const ModelConfig& config) {
  const GgufArchitecture* architecture = gguf_architecture_of_class(config.architecture);
  if (!architecture) refuse("architecture " + config.architecture);
  if (!config.quantization.is_null()) {
    throw Error(ErrorCode::unsupported, "the checkpoint is quantized already", "convert the original checkpoint");
  }
  check_windows(config, architecture->name);
  check_attention(config, architecture->name);
  check_rope(config, *architecture);
  return *architecture;
}

// --- metadata ---

std::uint32_t file_type(GgufType type) {
  switch (type) {
    case GgufType::f32: return 0;
    case GgufType::f16: return 1;
    case GgufType::q4_0: return 2;
    case GgufType::q8_0: return 7;
    case GgufType::q4_k: return 14;
    case GgufType::bf16: return 32;
    default: refuse("a file of type " + gguf_type_name(static_cast<std::uint32_t>(type)));
  }
}

// What divides the frequencies of each pair.
std::vector<float> frequency_factors(const ModelConfig& config) {
  nn::RopeConfig plain;
  plain.theta = config.rope.theta;
  const auto base = nn::rope_frequencies(plain, config.rotary_dim, 1);
  std::vector<float> factors = nn::rope_frequencies(config.rope, config.rotary_dim, 1);
  for (std::size_t i = 0; i < factors.size(); ++i) factors[i] = base[i] / factors[i];
  return factors;
}

// Vectors that hold configuration, by name.
std::map<std::string, std::vector<float>> rope_tensors(const ModelConfig& config) {
  if (config.rope.kind == Kind::llama3) return {{"rope_freqs.weight", frequency_factors(config)}};
  if (config.rope.kind != Kind::longrope) return {};
  const auto narrow = [](const std::vector<double>& v) { return std::vector<float>(v.begin(), v.end()); };
  if (config.rope.short_factor == config.rope.long_factor && config.rope.attention_factor == 1.0) {
    return {{"rope_freqs.weight", narrow(config.rope.long_factor)}};  // as a GGUF file of Llama 3.1 reads
  }
  return {{"rope_factors_long.weight", narrow(config.rope.long_factor)},
          {"rope_factors_short.weight", narrow(config.rope.short_factor)}};
}

void add_rope(const ModelConfig& config, const std::string& prefix, GgufKeyValues& metadata) {
  const nn::RopeConfig& rope = config.rope;
  metadata.integer(prefix + "rope.dimension_count", static_cast<std::uint32_t>(config.rotary_dim));
  metadata.number(prefix + "rope.freq_base", static_cast<float>(rope.theta));
  if (rope.kind == Kind::linear || rope.kind == Kind::yarn) {
    metadata.text(prefix + "rope.scaling.type", rope.kind == Kind::linear ? "linear" : "yarn");
    metadata.number(prefix + "rope.scaling.factor", static_cast<float>(rope.factor));
  }
  if (rope.kind == Kind::yarn || rope.kind == Kind::longrope) {
    metadata.integer(prefix + "rope.scaling.original_context_length",
                     static_cast<std::uint32_t>(rope.original_max_positions));
  }
  if (rope.kind == Kind::longrope) {
    metadata.number(prefix + "rope.scaling.attn_factor", nn::rope_attention_factor(rope));
  }
}

void add_config(const ModelConfig& config, const GgufArchitecture& architecture, GgufKeyValues& metadata) {
  const std::string prefix = std::string(architecture.name) + ".";
  const auto integer = [&](const char* key, std::int64_t value) {
    metadata.integer(prefix + key, static_cast<std::uint32_t>(value));
  };
  integer("block_count", config.layers);
  integer("context_length", config.max_positions);
  integer("embedding_length", config.hidden);
  integer("feed_forward_length", config.ffn);
  integer("attention.head_count", config.heads);
  integer("attention.head_count_kv", config.kv_heads);
  integer("attention.key_length", config.head_dim);
  integer("attention.value_length", config.head_dim);
  integer("vocab_size", config.vocab);
  metadata.number(prefix + "attention.layer_norm_rms_epsilon", static_cast<float>(config.norm_eps));
  add_rope(config, prefix, metadata);
  const bool windowed = architecture.name == "gemma2" || architecture.name == "phi3";
  if (windowed && config.window > 0) integer("attention.sliding_window", config.window);
  if (architecture.name == "gemma2") {
    metadata.number(prefix + "attn_logit_softcapping", static_cast<float>(config.attention_softcap));
    metadata.number(prefix + "final_logit_softcapping", static_cast<float>(config.final_softcap));
  }
}

// --- tensors ---

struct Placed {
  std::string key;  // in the checkpoint
  GgufTensorSpec spec;
};

GgufType type_of(const std::string& gguf_name, std::int64_t width, GgufType wanted) {
  const bool narrow = wanted == GgufType::q4_0 || wanted == GgufType::q4_k;
  const bool ends = gguf_name == "token_embd.weight" || gguf_name == "output.weight";
  if (narrow && ends) wanted = GgufType::q8_0;
  const auto fits = [&](GgufType type) {
    return width % gguf_type_info(static_cast<std::uint32_t>(type))->block_values == 0;
  };
  if (fits(wanted)) return wanted;
  return fits(GgufType::q8_0) ? GgufType::q8_0 : GgufType::f16;
}

bool is_left_out(const std::string& key, bool tied) {
  return (tied && key == "lm_head.weight") || key.ends_with(".rotary_emb.inv_freq");
}

std::vector<Placed> place(const Checkpoint& checkpoint, const GgufArchitecture& architecture, bool tied,
                          GgufType wanted) {
  std::vector<Placed> placed;
  for (const TensorEntry& entry : checkpoint.entries()) {
    if (is_left_out(entry.name, tied)) continue;
    const auto name = checkpoint_to_gguf_name(architecture.name, entry.name);
    if (!name || entry.shape.empty() || entry.shape.size() > 2) refuse("tensor " + quote_name(entry.name));
    Placed each{entry.name, {*name, {entry.shape.rbegin(), entry.shape.rend()}, GgufType::f32}};
    if (entry.shape.size() == 2) each.spec.type = type_of(*name, entry.shape[1], wanted);
    placed.push_back(std::move(each));
  }
  return placed;
}

// Row `row` of the file is row source_row() of the checkpoint: GGUF interleaves the halves of each head.
class RowOrder {
 public:
  RowOrder(const std::string& key, std::int64_t rows, const ModelConfig& config, const GgufArchitecture& architecture) {
    if (!architecture.permuted_heads) return;
    const bool q = key.find(".self_attn.q_proj.") != key.npos, k = key.find(".self_attn.k_proj.") != key.npos;
    if (q || k) width_ = rows / (q ? config.heads : config.kv_heads);
  }
  std::int64_t source_row(std::int64_t row) const {
    if (width_ == 0) return row;
    const std::int64_t head = row / width_, j = row % width_ / 2, side = row % 2;
    return head * width_ + side * (width_ / 2) + j;
  }

 private:
  std::int64_t width_ = 0;
};

class TensorWriter {
 public:
  TensorWriter(const ModelConfig& config, const GgufArchitecture& architecture, GgufWriter& writer, int threads)
      : config_(config), architecture_(architecture), writer_(writer), pool_(threads) {}

  // `advance` is called with the values of each piece.
  template <class Advance>
  void write(const Checkpoint& checkpoint, const Placed& placed, const Advance& advance) {
    const Weight weight = checkpoint.dense(placed.key);
    const RowOrder order(placed.key, weight.out, config_, architecture_);
    const bool vector = placed.spec.dims.size() == 1;
    const std::int64_t width = weight.in;
    // Enough rows for all threads, few enough to stay small; a vector is one piece.
    const std::int64_t piece = vector ? weight.out : std::max<std::int64_t>(pool_.size(), kPieceValues / width);
    for (std::int64_t row = 0; row < weight.out; row += piece) {
      const std::int64_t rows = std::min(piece, weight.out - row);
      write_rows(weight, order, placed, row, rows, vector);
      advance(rows * width);
    }
  }

 private:
  static constexpr std::int64_t kPieceValues = std::int64_t{1} << 22;

  void write_rows(const Weight& weight, const RowOrder& order, const Placed& placed, std::int64_t first,
                  std::int64_t rows, bool vector) {
    const float shift = architecture_.norm_plus_one && placed.key.ends_with("norm.weight") ? 1.0F : 0.0F;
    const std::int64_t width = weight.in;
    const std::int64_t row_bytes = vector ? 4 : gguf_bytes(placed.spec.type, width);
    std::vector<std::byte> bytes(static_cast<std::size_t>(rows * row_bytes));
    pool_.parallel_ranges(rows, 1, [&](std::int64_t begin, std::int64_t end, int) {
      std::vector<float> values(static_cast<std::size_t>(width));
      for (std::int64_t r = begin; r < end; ++r) {
        const auto* source =
            weight.data.as<const std::byte>() + order.source_row(first + r) * weight.data.stride[0] *
                                                    static_cast<std::int64_t>(dtype_size(weight.data.dtype));
        convert_to_f32(source, weight.data.dtype, width, values.data());
        for (float& value : values) value += shift;
        const std::vector<std::byte> row = gguf_encode(placed.spec.type, values);
        std::copy(row.begin(), row.end(), bytes.begin() + r * row_bytes);
      }
    });
    writer_.append(placed.spec.name, bytes);
  }

  const ModelConfig& config_;
  const GgufArchitecture& architecture_;
  GgufWriter& writer_;
  ThreadPool pool_;
};

std::string model_name(const ModelFiles& files) {
  const std::filesystem::path origin(files.origin());
  const std::string name = origin.has_filename() ? origin.stem().string() : origin.parent_path().stem().string();
  return name.empty() ? "model" : name;
}

GgufKeyValues make_metadata(const ModelFiles& files, const ModelConfig& config, const GgufArchitecture& architecture,
                            GgufType type) {
  GgufKeyValues metadata;
  metadata.text("general.architecture", architecture.name);
  metadata.text("general.type", "model");
  metadata.text("general.name", model_name(files));
  metadata.integer("general.file_type", file_type(type));
  metadata.integer("general.quantization_version", 2);
  add_config(config, architecture, metadata);
  add_gguf_tokenizer(files, config.vocab, metadata);
  return metadata;
}

}  // namespace

GgufExportReport export_gguf(const std::shared_ptr<const ModelFiles>& files, const std::filesystem::path& path,
                             const GgufExportOptions& options) {
  const std::unique_ptr<Model> model = build_model(load_config(*files));
  const ModelConfig& config = model->config();
  const GgufArchitecture& architecture = check(config);
  const std::unique_ptr<Checkpoint> checkpoint = open_checkpoint(files, config.quantization);
  const std::vector<Placed> placed = place(*checkpoint, architecture, config.tied_embeddings, options.type);
  const auto rope = rope_tensors(config);

  std::vector<GgufTensorSpec> specs;
  GgufExportReport report;
  report.architecture = architecture.name;
  for (const auto& [name, values] : rope)
    specs.push_back({name, {static_cast<std::int64_t>(values.size())}, GgufType::f32});
  for (const Placed& each : placed) {
    specs.push_back(each.spec);
    std::int64_t values = 1;
    for (const std::int64_t dim : each.spec.dims) values *= dim;
    report.parameters += values;
  }
  for (const GgufTensorSpec& spec : specs) {
    ++report.tensors[gguf_type_name(static_cast<std::uint32_t>(spec.type))];
    report.bytes += spec.bytes();
  }

  if (options.dry_run) return report;
  GgufWriter writer(path, make_metadata(*files, config, architecture, options.type), std::move(specs));
  for (const auto& [name, values] : rope) writer.append(name, std::as_bytes(std::span(values)));
  TensorWriter tensors(config, architecture, writer,
                       options.threads > 0 ? options.threads : ThreadPool::default_size());
  std::int64_t done = 0;
  for (const Placed& each : placed) {
    tensors.write(*checkpoint, each, [&](std::int64_t values) {
      done += values;
      if (options.progress) options.progress(done, report.parameters);
    });
  }
  writer.finish();
  return report;
}

}  // namespace bittern
