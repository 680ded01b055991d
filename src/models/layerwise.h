// Layer-wise work: a model of which one decoder layer's weights are resident at a time, and the forward pass in pieces
// that goes with it. Calibration and the algorithms of quantization that look at activations stream a model this way,
// so that memory holds one layer and not the model. It decides nothing about samples or statistics.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backend/arena.h"
#include "models/model.h"
#include "nn/probe.h"

namespace bittern {

class LayerwiseModel {
 public:
  /// Reads config.json and the headers; no weights yet. `backend` must outlive it. Errors of load_model(), less those
  /// of keys, which come when a part is loaded.
  LayerwiseModel(std::shared_ptr<const ModelFiles> files, Backend& backend);

  Model& model() { return *model_; }
  const ModelConfig& config() const { return model_->config(); }
  Backend& backend() { return backend_; }

  /// Maps the checkpoint anew, binds the leaves of layer `layer` and unmaps it.
  void load_layer(int layer);
  void drop_layer(int layer);
  /// Embedding, final norm and output head: what embed() and logits() of a pass need.
  void load_outside();
  void drop_outside();

 private:
  std::shared_ptr<const ModelFiles> files_;
  Backend& backend_;
  std::unique_ptr<Model> model_;
};

/// Sequences that run side by side through the pieces of a pass, each from its first token on. Activations of all lie
/// one after another: rows are tokens.
class LayerwisePass {
 public:
  /// Room for `max_tokens` tokens and `max_sequences` sequences a call; K and V of one layer, stored as `kv` says.
  LayerwisePass(LayerwiseModel& model, int max_tokens, int max_sequences = 1, KvFormat kv = KvFormat::f32);

  /// The sequences of the following calls: tokens of each; their sum at most max_tokens.
  void set_sequences(std::span<const std::int32_t> lengths);
  int tokens() const { return tokens_; }
  int max_tokens() const { return max_tokens_; }

  /// hidden (tokens, hidden size) = embeddings of `ids` (tokens).
  void embed(std::span<const std::int32_t> ids, float* hidden);
  /// out (tokens, hidden size) = what the branch adds to `hidden` (tokens, hidden size); out must not be hidden.
  void forward_branch(int layer, int branch, const float* hidden, float* out, nn::Probe* probe = nullptr);
  /// hidden = the layer's output, in place.
  void forward_layer(int layer, float* hidden, nn::Probe* probe = nullptr);
  /// f32 (rows, vocab), valid until the next call.
  std::span<const float> logits(const float* hidden, std::span<const std::int32_t> rows);

  /// Bytes of arena and pool.
  std::int64_t bytes() const;

 private:
  nn::Ctx context(int layer, nn::Probe* probe);
  Tensor load(nn::Ctx& ctx, const float* hidden);

  LayerwiseModel& model_;
  int max_tokens_;
  int tokens_ = 0;
  KvSpec kv_spec_;
  std::int64_t kv_blocks_ = 0;
  std::unique_ptr<KvPool> kv_;
  Arena arena_;
  BatchView batch_;
  std::vector<std::int32_t> ids_, positions_, starts_, lengths_, tables_;
  std::vector<float> branch_;
};

}  // namespace bittern
