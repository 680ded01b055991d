// Building a LoadedModel, in the order in which a mistake is cheapest to find: text first, weights last.
#include "server/loaded_model.h"

#include <bittern/error.h>

#include <chrono>

#include "models/kv_params.h"
#include "server/model_text.h"

namespace bittern::server {
namespace {

// What ends a sample in the engine; the tokenizer's settings speak where the model's files say nothing.
std::vector<std::int32_t> end_ids(const text::Tokenizer& tokenizer, const ModelConfig& config) {
  std::vector<std::int32_t> ids = config.eos_ids;
  if (ids.empty()) ids = tokenizer.special_ids().stop;
  std::erase_if(ids, [&](std::int32_t id) { return id < 0 || id >= tokenizer.vocab_size(); });
  return ids;
}

}  // namespace

LoadedModel::LoadedModel(std::shared_ptr<const ModelFiles> files, const LoadedModelOptions& options)
    : files_(std::move(files)) {
  const auto start = std::chrono::steady_clock::now();
  backend_ = make_backend(options.backend, options.device);
  tokenizer_ = load_tokenizer(*files_);
  template_ = load_chat_template(*files_, *tokenizer_, options.chat_template);
  model_ = load_model(files_, *backend_, options.load);
  guided_ = std::make_unique<GuidedDecoding>(*tokenizer_, end_ids(*tokenizer_, model_->config()));
  EngineOptions engine = options.engine;
  engine.kv_params = load_kv_params(engine.kv_cache, options.kv_params, *files_, model_->config());
  engine_ = make_engine(*model_, *backend_, engine);
  load_seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::vector<std::int32_t> LoadedModel::encode_prompt(std::string_view text) const {
  return tokenizer_->encode(text, {.add_special = true, .parse_special = true});
}

const text::ChatTemplate& LoadedModel::chat_template() const {
  if (!template_) {
    throw Error(ErrorCode::unsupported, files_->origin() + " has no chat template",
                "give one with --chat-template FILE, or use a plain prompt");
  }
  return *template_;
}

std::vector<std::int32_t> LoadedModel::encode_chat(const OrderedJson& messages) const {
  text::ChatRequest request;
  request.messages = messages;
  return text::encode_chat(*tokenizer_, chat_template(), request);
}

}  // namespace bittern::server
