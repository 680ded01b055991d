// Decoder<Layer>: embedding, a stack of layers, a final norm and the output head: all that decoder-only transformers
// share. An architecture supplies its Layer (a constructor from config and index, visit, and its branches, each of
// which reads the residual stream through a norm and is added to it) and, where its checkpoint uses other names, a
// `static DecoderNames names()`.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "models/model.h"
#include "nn/linear.h"
#include "nn/module.h"
#include "nn/residual.h"
#include "nn/rope.h"

namespace bittern {

/// Where the checkpoint keeps what is outside the layers.
struct DecoderNames {
  std::string embedding = "model.embed_tokens";
  std::string layers = "model.layers";
  std::string norm = "model.norm";
  std::string head = "lm_head";
};

template <class Layer>
DecoderNames decoder_names() {
  if constexpr (requires { Layer::names(); }) {
    return Layer::names();
  } else {
    return {};
  }
}

template <class Layer>
class Decoder final : public Model {
 public:
  explicit Decoder(ModelConfig c, float norm_offset = 0)
      : Model(std::move(c)),
        embedding_(config().vocab, config().hidden, config().tied_embeddings),
        norm_(config().hidden, config().norm_eps, norm_offset),
        rope_(config().rope, config().rotary_dim) {
    layers_.reserve(static_cast<std::size_t>(config().layers));
    for (int i = 0; i < config().layers; ++i) layers_.emplace_back(config(), i);
    if (!config().tied_embeddings) head_ = std::make_unique<nn::Linear>(config().hidden, config().vocab, false);
  }

  void visit(nn::Visitor& visitor) override {
    const DecoderNames names = decoder_names<Layer>();
    nn::Scope scope(visitor, "");
    scope(names.embedding, embedding_);
    for (std::size_t i = 0; i < layers_.size(); ++i) scope(names.layers + "." + std::to_string(i), layers_[i]);
    scope(names.norm, norm_);
    if (head_) scope(names.head, *head_);
  }

  void visit_layer(nn::Visitor& visitor, int layer) override {
    nn::Scope scope(visitor, "");
    scope(decoder_names<Layer>().layers + "." + std::to_string(layer), layers_[static_cast<std::size_t>(layer)]);
  }

  std::string head_name() const override { return decoder_names<Layer>().head; }

  Tensor forward(nn::Ctx& ctx, std::span<const std::int32_t> logit_rows) override {
    rope_.fill(ctx);
    nn::Residual stream(ctx, embed(ctx));
    for (const Layer& layer : layers_) {
      for (int i = 0; i < Layer::kBranches; ++i) stream.add(layer.branch(i, ctx, stream));
    }
    return logits(ctx, stream.norm(norm_), logit_rows);
  }

  int branches() const override { return Layer::kBranches; }
  Tensor embed(nn::Ctx& ctx) override { return embedding_.forward(ctx, static_cast<float>(config().embedding_scale)); }
  Tensor forward_branch(nn::Ctx& ctx, int layer, int branch, Tensor hidden) override {
    rope_.fill(ctx);
    nn::Residual stream(ctx, hidden);
    return layers_[static_cast<std::size_t>(layer)].branch(branch, ctx, stream);
  }
  Tensor head(nn::Ctx& ctx, Tensor hidden, std::span<const std::int32_t> logit_rows) override {
    nn::Residual stream(ctx, hidden);
    return logits(ctx, stream.norm(norm_), logit_rows);
  }

 private:
  Tensor logits(nn::Ctx& ctx, Tensor hidden, std::span<const std::int32_t> rows) {
    ctx.states = hidden;
    const auto count = static_cast<std::int64_t>(rows.size());
    Tensor chosen = ctx.arena.take(ctx.backend.activation_dtype(), count, hidden.cols());
    Tensor out = ctx.arena.take(DType::f32, count, config().vocab);
    ctx.backend.gather_rows(chosen, hidden, rows);
    if (head_) {
      head_->forward(ctx, out, chosen);
    } else {
      ctx.backend.linear(out, chosen, embedding_.table(), nullptr);
    }
    if (config().final_softcap > 0) ctx.backend.softcap(out, static_cast<float>(config().final_softcap));
    return out;
  }

  nn::Embedding embedding_;
  std::vector<Layer> layers_;
  nn::RmsNorm norm_;
  std::unique_ptr<nn::Linear> head_;
  nn::Rope rope_;
};

}  // namespace bittern
