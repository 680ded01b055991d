// LoadedModel: one model ready to answer: its files, backend, weights, tokenizer, chat template and engine, built in
// that order and torn down in reverse. It is what the command line and the server share; it knows no protocol.
#pragma once

#include <bittern/engine.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "backend/backend.h"
#include "base/json.h"
#include "models/model.h"
#include "server/grammar_mask.h"
#include "tensor/model_files.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace bittern::server {

struct LoadedModelOptions {
  std::string backend = "cpu";
  BackendOptions device;
  EngineOptions engine;
  std::string kv_params;                     // file for --kv-cache int8-static; empty: the model's own
  std::optional<std::string> chat_template;  // Jinja text that replaces the checkpoint's own
  LoadOptions load;
};

class LoadedModel {
 public:
  /// Errors as load_model, Tokenizer, ChatTemplate and make_engine throw them.
  LoadedModel(std::shared_ptr<const ModelFiles> files, const LoadedModelOptions& options);

  const ModelFiles& files() const { return *files_; }
  Model& model() { return *model_; }
  Backend& backend() { return *backend_; }
  Engine& engine() { return *engine_; }
  const text::Tokenizer& tokenizer() const { return *tokenizer_; }
  /// Masks for requests whose output must follow a schema or a grammar.
  GuidedDecoding& guided() { return *guided_; }
  bool has_chat_template() const { return template_ != nullptr; }
  /// Error(unsupported) when there is none.
  const text::ChatTemplate& chat_template() const;
  double load_seconds() const { return load_seconds_; }

  /// Token ids of a plain prompt, with the tokens the tokenizer puts around a text (BOS).
  std::vector<std::int32_t> encode_prompt(std::string_view text) const;
  /// Token ids of a conversation, ready for the assistant's reply. Content cannot become special tokens.
  /// `messages` as in the OpenAI API: a list of {"role", "content"}. Error(unsupported) when there is no chat template.
  std::vector<std::int32_t> encode_chat(const OrderedJson& messages) const;

 private:
  std::shared_ptr<const ModelFiles> files_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<text::Tokenizer> tokenizer_;
  std::unique_ptr<text::ChatTemplate> template_;
  std::unique_ptr<GuidedDecoding> guided_;
  std::unique_ptr<Engine> engine_;
  double load_seconds_ = 0;
};

}  // namespace bittern::server
