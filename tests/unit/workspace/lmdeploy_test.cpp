// LMDeploy's classic workspace: golden Llama models written in its layout, straight from the documented transforms and
// with numpy's notions (reshape, transpose), not with the reader's; read back the logits are the same bits.
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>

#include "golden/golden_case.h"
#include "golden/step_runner.h"
#include "models/kv_params.h"
#include "models/workspace_export.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"
#include "tensor/convert.h"
#include "tensor/lmdeploy_workspace.h"

namespace bittern::golden {
namespace {

namespace fs = std::filesystem;
using testing::TempDir;

/// A matrix of floats, row after row.
struct Array {
  std::int64_t rows = 0, cols = 0;
  std::vector<float> values;

  Array(std::int64_t r, std::int64_t c) : rows(r), cols(c), values(static_cast<std::size_t>(r * c)) {}
  float& at(std::int64_t r, std::int64_t c) { return values[static_cast<std::size_t>(r * cols + c)]; }
  float at(std::int64_t r, std::int64_t c) const { return values[static_cast<std::size_t>(r * cols + c)]; }
  Array transposed() const {
    Array t(cols, rows);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < cols; ++c) t.at(c, r) = at(r, c);
    }
    return t;
  }
  Array columns(std::int64_t begin, std::int64_t count) const {
    Array part(rows, count);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < count; ++c) part.at(r, c) = at(r, begin + c);
    }
    return part;
  }
  Array slice(std::int64_t begin, std::int64_t count) const {
    Array part(count, cols);
    std::copy_n(values.begin() + begin * cols, count * cols, part.values.begin());
    return part;
  }
  void append_columns(const Array& other) {
    Array joined(rows, cols + other.cols);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < joined.cols; ++c) joined.at(r, c) = c < cols ? at(r, c) : other.at(r, c - cols);
    }
    *this = joined;
  }
};

/// x.view(rows, heads, 2, dim / 2).transpose(2, 3).reshape(rows, heads * dim)
Array interleave(const Array& x, std::int64_t dim) {
  Array y(x.rows, x.cols);
  for (std::int64_t r = 0; r < x.rows; ++r) {
    std::int64_t to = 0;
    for (std::int64_t head = 0; head < x.cols / dim; ++head) {
      for (std::int64_t j = 0; j < dim / 2; ++j) {
        for (std::int64_t half = 0; half < 2; ++half) y.at(r, to++) = x.at(r, head * dim + half * (dim / 2) + j);
      }
    }
  }
  return y;
}

class LayoutWriter {
 public:
  LayoutWriter(const std::string& name, const fs::path& dir, int parts)
      : files_(ModelFiles::from_directory(models_folder() / name)),
        config_(load_config(*files_)),
        checkpoint_(open_checkpoint(files_, Json())),
        weights_(dir / "triton_models/weights"),
        parts_(parts) {
    fs::create_directories(weights_);
    fs::create_directories(dir / "triton_models/tokenizer");
    write_file("norm.weight", vector("model.norm.weight"));
    write_file("tok_embeddings.weight", padded(matrix("model.embed_tokens.weight")));
    write_file("output.weight", padded(matrix("lm_head.weight")));
    for (int layer = 0; layer < config_.layers; ++layer) write_layer("layers." + std::to_string(layer) + ".");
    write_ini(0, "");
  }

  void write_ini(int policy, const std::string& more) {
    std::ofstream ini(weights_ / "config.ini");
    ini << "[llama]\nmodel_name = llama\ntensor_para_size = " << parts_ << "\nhead_num = " << config_.heads
        << "\nkv_head_num = " << config_.kv_heads << "\nvocab_size = " << config_.vocab
        << "\nnum_layer = " << config_.layers << "\ninter_size = " << config_.ffn << "\nnorm_eps = " << config_.norm_eps
        << "\nattn_bias = " << checkpoint_->contains("model.layers.0.self_attn.q_proj.bias")
        << "\nstart_id = 1\nend_id = 2\nsession_len = 136\nweight_type = fp32\nrotary_embedding = " << config_.head_dim
        << "\nrope_theta = " << config_.rope.theta << "\nsize_per_head = " << config_.head_dim
        << "\ngroup_size = 0\nmax_batch_size = 8\nmax_context_token_num = 1\nstep_length = 1\n"
        << "cache_max_entry_count = 0.5\ncache_block_seq_len = 32\ncache_chunk_size = 1\nuse_context_fmha = 1\n"
        << "quant_policy = " << policy << "\nmax_position_embeddings = 128\n"
        << "rope_scaling_factor = 0.0\nuse_logn_attn = 0\n"
        << more;
  }
  const fs::path& weights() const { return weights_; }
  const ModelConfig& config() const { return config_; }

 private:
  Array matrix(const std::string& name) {
    const Weight weight = to_f32(checkpoint_->dense(name));
    Array array(weight.out, weight.in);
    std::copy_n(weight.data.as<float>(), array.values.size(), array.values.begin());
    return array;
  }
  Array vector(const std::string& name) {
    Array column = matrix(name);
    return column.transposed();
  }
  Array padded(Array table) {
    const std::int64_t rows = (table.rows + parts_ - 1) / parts_ * parts_;
    table.values.resize(static_cast<std::size_t>(rows * table.cols), 0.0f);
    table.rows = rows;
    return table;
  }
  void write_file(const std::string& name, const Array& array) {
    std::ofstream(weights_ / name, std::ios::binary)
        .write(reinterpret_cast<const char*>(array.values.data()),
               static_cast<std::streamsize>(array.values.size() * 4));
  }
  void write_columns(const std::string& stem, const char* extension, const Array& array) {
    for (int p = 0; p < parts_; ++p) {
      const std::int64_t width = array.cols / parts_;
      write_file(stem + "." + std::to_string(p) + extension, array.columns(p * width, width));
    }
  }
  void write_rows(const std::string& stem, const Array& array) {
    for (int p = 0; p < parts_; ++p) {
      const std::int64_t count = array.rows / parts_;
      write_file(stem + "." + std::to_string(p) + ".weight", array.slice(p * count, count));
    }
  }
  void write_qkv(const std::string& stem, const char* extension, const Array& q, const Array& k, const Array& v) {
    for (int p = 0; p < parts_; ++p) {
      Array part = interleave(q, config_.head_dim).columns(p * q.cols / parts_, q.cols / parts_);
      part.append_columns(interleave(k, config_.head_dim).columns(p * k.cols / parts_, k.cols / parts_));
      part.append_columns(v.columns(p * v.cols / parts_, v.cols / parts_));
      write_file(stem + "." + std::to_string(p) + extension, part);
    }
  }
  void write_layer(const std::string& to) {
    const std::string from = "model." + to, attention = from + "self_attn.";
    write_qkv(to + "attention.w_qkv", ".weight", matrix(attention + "q_proj.weight").transposed(),
              matrix(attention + "k_proj.weight").transposed(), matrix(attention + "v_proj.weight").transposed());
    write_rows(to + "attention.wo", matrix(attention + "o_proj.weight").transposed());
    if (checkpoint_->contains(attention + "q_proj.bias")) {
      write_qkv(to + "attention.w_qkv", ".bias", vector(attention + "q_proj.bias"), vector(attention + "k_proj.bias"),
                vector(attention + "v_proj.bias"));
    }
    if (checkpoint_->contains(attention + "o_proj.bias")) {
      for (int p = 0; p < parts_; ++p) {
        write_file(to + "attention.wo." + std::to_string(p) + ".bias", vector(attention + "o_proj.bias"));
      }
    }
    write_columns(to + "feed_forward.w1", ".weight", matrix(from + "mlp.gate_proj.weight").transposed());
    write_columns(to + "feed_forward.w3", ".weight", matrix(from + "mlp.up_proj.weight").transposed());
    write_rows(to + "feed_forward.w2", matrix(from + "mlp.down_proj.weight").transposed());
    write_file(to + "attention_norm.weight", vector(from + "input_layernorm.weight"));
    write_file(to + "ffn_norm.weight", vector(from + "post_attention_layernorm.weight"));
  }

  std::shared_ptr<const ModelFiles> files_;
  ModelConfig config_;
  std::unique_ptr<Checkpoint> checkpoint_;
  fs::path weights_;
  int parts_;
};

std::vector<float> logits_of(const std::shared_ptr<const ModelFiles>& files) {
  Bench bench(files, {"cpu", "generic", true});
  Sequence sequence = bench.sequence();
  return bench.step(sequence, std::vector<std::int32_t>{1, 5, 9, 2, 30, 7, 8, 11});
}

std::shared_ptr<const LmdeployFiles> open(const fs::path& dir) { return std::make_shared<LmdeployFiles>(dir); }

class Lmdeploy : public ::testing::Test {
 protected:
  TempDir temp_;
  const fs::path& dir() const { return temp_.path(); }
};

TEST_F(Lmdeploy, GivesTheSameBits) {
  for (const char* name : {"llama_plain", "llama_biases", "qwen2_untied"}) {
    for (const int parts : {1, 2}) {
      const TempDir temp;
      const auto original = ModelFiles::from_directory(models_folder() / name);
      if (load_config(*original).kv_heads % parts != 0) continue;
      if (open_checkpoint(original, Json())->contains("model.layers.0.mlp.up_proj.bias")) continue;
      const LayoutWriter writer(name, temp.path(), parts);
      EXPECT_TRUE(is_lmdeploy_workspace(temp.path()));
      EXPECT_TRUE(is_lmdeploy_workspace(temp.path() / "triton_models"));
      EXPECT_EQ(logits_of(open(temp.path())), logits_of(original)) << name << " in " << parts;
    }
  }
}

TEST_F(Lmdeploy, BecomesAWorkspaceWithItsSettings) {
  LayoutWriter writer("llama_plain", dir() / "old", 2);
  writer.write_ini(8, "num_tokens_per_iter = 64\n");
  WorkspaceOptions options;
  options.output = dir() / "new";
  export_workspace(open(dir() / "old"), options);
  const auto workspace = open_workspace(options.output);
  EXPECT_EQ(logits_of(workspace), logits_of(open(dir() / "old")));
  const RunSettings& run = *workspace->run_settings();
  EXPECT_EQ(run.max_sequences, 8);
  EXPECT_EQ(run.block_tokens, 32);
  EXPECT_EQ(run.max_step_tokens, 64);
  EXPECT_EQ(run.kv_cache, "int8");
}

TEST_F(Lmdeploy, SettingsAndEndToken) {
  const LayoutWriter writer("llama_plain", dir(), 1);
  const auto files = open(dir());
  EXPECT_EQ(files->run_settings()->context, 136);
  EXPECT_EQ(files->run_settings()->kv_cache_share, 0.5);
  const ModelConfig config = load_config(*files);
  EXPECT_EQ(config.max_positions, 136) << "LMDeploy let a session be longer than the model was made for";
  EXPECT_EQ(config.eos_ids, std::vector<std::int32_t>{2});
  // The tokenizer's folder may list more end tokens; they count when config.ini's is among them.
  const fs::path generation = dir() / "triton_models/tokenizer/generation_config.json";
  std::ofstream(generation) << R"({"eos_token_id": [9, 2]})";
  EXPECT_EQ(load_config(*open(dir())).eos_ids, (std::vector<std::int32_t>{9, 2}));
  std::ofstream(generation) << R"({"eos_token_id": [9, 3]})";
  EXPECT_EQ(load_config(*open(dir())).eos_ids, std::vector<std::int32_t>{2});
}

TEST_F(Lmdeploy, StaticKvParameters) {
  LayoutWriter writer("llama_plain", dir(), 2);
  for (int layer = 0; layer < writer.config().layers; ++layer) {
    for (int part = 0; part < 2; ++part) {
      const float scales[4] = {0.5f + static_cast<float>(part), -0.25f, 0.125f, static_cast<float>(layer)};
      std::ofstream(
          writer.weights() / ("layers." + std::to_string(layer) + ".past_kv_scale." + std::to_string(part) + ".weight"),
          std::ios::binary)
          .write(reinterpret_cast<const char*>(scales), sizeof scales);
    }
  }
  writer.write_ini(4, "");
  const auto files = open(dir());
  EXPECT_EQ(files->run_settings()->kv_cache, "int8-static");
  const auto params = load_kv_params("int8-static", "", *files, load_config(*files));
  const auto half = static_cast<std::size_t>(writer.config().head_dim);  // one KV head in each part
  EXPECT_EQ(params->k_scale[0], 0.5f);
  EXPECT_EQ(params->k_scale[half], 1.5f);
  EXPECT_EQ(params->k_zero[0], -0.25f);
  EXPECT_EQ(params->v_scale[0], 0.125f);
  EXPECT_EQ(params->v_zero.back(), 1.0f);
  fs::resize_file(writer.weights() / "layers.1.past_kv_scale.0.weight", 8);
  EXPECT_ERROR(ErrorCode::invalid_checkpoint, "symmetric form", open(dir()));
}

TEST_F(Lmdeploy, FilesThatLackOrDoNotFitAreNamed) {
  const LayoutWriter writer("llama_plain", dir(), 1);
  fs::resize_file(writer.weights() / "layers.1.feed_forward.w3.0.weight", 100);
  EXPECT_ERROR(ErrorCode::invalid_checkpoint, "layers.1.feed_forward.w3.0.weight (100 bytes",
               open_checkpoint(open(dir()), Json()));
  fs::remove(writer.weights() / "layers.0.attention.wo.0.weight");
  EXPECT_ERROR(ErrorCode::invalid_checkpoint, "lacks layers.0.attention.wo.weight",
               open_checkpoint(open(dir()), Json()));
}

TEST_F(Lmdeploy, WhatIsNotDocumentedIsRefusedByName) {
  LayoutWriter writer("llama_plain", dir(), 1);
  const auto with = [&](const std::string& from, const std::string& to) {
    writer.write_ini(0, "");
    std::ifstream file(writer.weights() / "config.ini");
    std::string text{std::istreambuf_iterator<char>(file), {}};
    text.replace(text.find(from), from.size(), to);
    std::ofstream(writer.weights() / "config.ini") << text;
  };
  with("weight_type = fp32", "weight_type = int4");
  EXPECT_ERROR(ErrorCode::unsupported, "scales_zeros", open(dir()));
  with("rotary_embedding = 10", "rotary_embedding = 4");
  EXPECT_ERROR(ErrorCode::unsupported, "rotary_embedding", open(dir()));
  with("use_logn_attn = 0", "use_logn_attn = 1");
  EXPECT_ERROR(ErrorCode::unsupported, "use_logn_attn", open(dir()));
  with("head_num = 4\n", "");
  EXPECT_ERROR(ErrorCode::invalid_argument, "head_num is missing", open(dir()));
  with("tensor_para_size = 1", "tensor_para_size = 3");
  EXPECT_ERROR(ErrorCode::invalid_checkpoint, "tensor_para_size = 3", open(dir()));
}

}  // namespace
}  // namespace bittern::golden
