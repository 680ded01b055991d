// Attention: grouped-query self-attention over the paged KV cache. Separate or fused projections write into one
// (tokens, q | k | v) buffer; optional per-head norms, rotation and the KV store follow, then the output projection.
// Cross-attention, latent attention and ALiBi are not covered.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "nn/linear.h"
#include "nn/module.h"

namespace bittern::nn {

struct AttentionOptions {
  int layer = 0;
  int hidden = 0;
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  double scale = 0;    // multiplies q.k
  double softcap = 0;  // 0: none
  int window = 0;      // 0: all
  bool qkv_bias = false;
  bool out_bias = false;
  bool qk_norm = false;  // RMS norm of every q and k head before rotation (Qwen3)
  double norm_eps = 1e-6;
  std::string fused_name;       // non-empty: one linear of this name holds q, k and v
  bool fused_by_group = false;  // its rows are [q heads of the group | k | v] per KV head (InternLM2), not [q | k | v]
  std::string out_name = "o_proj";
};

class Attention {
 public:
  explicit Attention(AttentionOptions options);

  void visit(Scope& scope);
  /// (tokens, hidden) from the normalized stream; the result lives in the arena until the stream's next norm.
  Tensor forward(Ctx& ctx, Tensor x) const;

 private:
  std::int64_t q_width() const { return static_cast<std::int64_t>(options_.heads) * options_.head_dim; }
  std::int64_t kv_width() const { return static_cast<std::int64_t>(options_.kv_heads) * options_.head_dim; }
  void project(Ctx& ctx, Tensor qkv, Tensor x) const;
  std::vector<std::int64_t> value_rows() const;
  void rotate_and_store(Ctx& ctx, Tensor q, Tensor k, Tensor v) const;

  AttentionOptions options_;
  std::vector<Linear> qkv_;  // {fused} or {q, k, v}
  Linear out_;
  std::unique_ptr<RmsNorm> q_norm_, k_norm_;
};

}  // namespace bittern::nn
