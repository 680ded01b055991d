// Model: a decoder-only transformer bound to a backend, built from a checkpoint by its architecture's file.
// It is immutable after loading and knows nothing of requests, text or sampling.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "models/config.h"
#include "nn/ctx.h"
#include "nn/module.h"
#include "tensor/checkpoint.h"

namespace bittern {

class Model {
 public:
  virtual ~Model() = default;
  const ModelConfig& config() const { return config_; }
  /// Reports every leaf under its checkpoint name.
  virtual void visit(nn::Visitor& visitor) = 0;
  /// Runs one step over ctx.batch, storing K and V in ctx.kv. Returns f32 logits (logit_rows.size(), vocab) in the
  /// arena, for the given rows of the batch. Sets up the rotary tables itself, and leaves ctx.states behind.
  virtual Tensor forward(nn::Ctx& ctx, std::span<const std::int32_t> logit_rows) = 0;

  // The same forward pass in pieces, for layer-wise work (models/layerwise.h): hidden = embed(); for every layer and
  // branch, hidden += forward_branch(); logits = head(). The bits are those of forward().
  virtual int branches() const = 0;  // of each layer: 2, attention and MLP
  /// (tokens, hidden) of the batch's tokens, in the arena.
  virtual Tensor embed(nn::Ctx& ctx) = 0;
  /// What the branch adds to `hidden` (tokens, hidden), which it leaves as it is; in the arena.
  virtual Tensor forward_branch(nn::Ctx& ctx, int layer, int branch, Tensor hidden) = 0;
  virtual Tensor head(nn::Ctx& ctx, Tensor hidden, std::span<const std::int32_t> logit_rows) = 0;
  /// Reports the leaves of one decoder layer, under the names visit() gives them.
  virtual void visit_layer(nn::Visitor& visitor, int layer) = 0;

  /// Checkpoint name of the output head, "lm_head" in most.
  virtual std::string head_name() const = 0;
  KvSpec kv_spec(KvFormat format, int block_tokens) const;

 protected:
  explicit Model(ModelConfig config) : config_(std::move(config)) {}

 private:
  ModelConfig config_;
};

struct LoadOptions {
  /// Called after each loaded leaf with the bytes read so far and in all, for a progress bar. May be null.
  std::function<void(std::int64_t done, std::int64_t total)> progress;
  /// Called with a sentence for the user, once, when packed weights must be packed anew. Null: it is logged.
  std::function<void(const std::string& message)> notice;
};

/// Reads config.json, builds the architecture, loads and packs every weight, and refuses missing or unused keys by
/// listing them. Errors: not_found, invalid_checkpoint, unsupported (lists what is supported).
std::unique_ptr<Model> load_model(const std::shared_ptr<const ModelFiles>& files, Backend& backend,
                                  const LoadOptions& options = {});

/// Bytes resident for all packed parameters of a loaded model.
std::int64_t weight_bytes(Model& model);
/// Those of them that are mapped from a workspace's file.
std::int64_t mapped_weight_bytes(Model& model);

/// Reads config.json and, when present, generation_config.json.
ModelConfig load_config(const ModelFiles& files);

/// The same module tree without weights: for show, quantize and memory plans.
std::unique_ptr<Model> build_model(const ModelConfig& config);

/// Architectures Bittern can run, as config.json spells them, sorted.
std::vector<std::string> supported_architectures();

}  // namespace bittern
