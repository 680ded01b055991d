// CalibratedModel: the model under quantization and the calibration tokens on their way through it, one decoder layer
// at a time. It owns the hidden states of all sequences at the input of the current layer; algorithms read activations
// from it and run pieces of the layer with candidates in place of weights.
#pragma once

#include <bittern/quantize.h>

#include <memory>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "models/layerwise.h"

namespace bittern::quant {

class CalibratedModel {
 public:
  /// Embeds all sequences. `calibration` must outlive it. Errors: invalid_argument for no sequences or tokens outside
  /// the vocabulary; those of LayerwiseModel.
  CalibratedModel(const std::shared_ptr<const ModelFiles>& files, const Calibration& calibration, int threads);

  LayerwiseModel& model() { return model_; }
  Backend& backend() { return *backend_; }
  std::int64_t hidden_size() const { return model_.config().hidden; }
  std::int64_t tokens() const { return static_cast<std::int64_t>(hidden_.size()) / hidden_size(); }

  /// Whole sequences that are run in one call; their rows in hidden().
  struct Chunk {
    std::span<const std::int32_t> lengths;
    std::int64_t first = 0, tokens = 0;
  };
  const std::vector<Chunk>& chunks() const { return chunks_; }
  /// The sequences that searches run again and again: the first Calibration::search_tokens
  /// tokens.
  const Chunk& search() const { return search_; }
  /// (tokens, hidden size) at the input of the branch that is next.
  float* hidden(std::int64_t token) { return hidden_.data() + token * hidden_size(); }
  std::vector<float>& hidden() { return hidden_; }

  /// Hidden states of a run that got further; same size as hidden().
  void restore(std::vector<float> hidden) { hidden_ = std::move(hidden); }

  /// Runs a branch of a loaded layer over the rows of `chunk`; out (chunk.tokens, hidden size).
  void run(const Chunk& chunk, int layer, int branch, float* out, nn::Probe* probe = nullptr);

  /// Bytes it will hold: hidden states, arena and pool, without weights; and what a branch adds to the hidden states.
  static std::int64_t planned_bytes(const ModelConfig& config, const Calibration& calibration);

 private:
  void make_chunks(const Calibration& calibration);
  void choose_search(std::int64_t wanted);

  std::unique_ptr<Backend> backend_;
  LayerwiseModel model_;
  std::vector<std::int32_t> lengths_, search_lengths_;
  std::vector<Chunk> chunks_;
  Chunk search_;
  std::vector<float> hidden_;
  std::unique_ptr<LayerwisePass> pass_;
};

}  // namespace bittern::quant
