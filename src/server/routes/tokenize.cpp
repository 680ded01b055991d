// Text to tokens and back, without the model: /tokenize and /detokenize with the fields of vLLM and of llama-server,
// /apply-template of llama-server, /v1/encode of LMDeploy. Which server's reply is meant follows from the field that
// holds the text: "prompt" or "messages" is vLLM's, "content" llama-server's, "input" LMDeploy's.
#include "base/strings.h"
#include "server/generation/fields.h"
#include "server/generation/generation.h"
#include "server/model_pool.h"
#include "server/routes/json_reply.h"
#include "server/routes/routes.h"
#include "server/serve_options.h"

namespace bittern::server {
namespace {

using Ids = std::vector<std::int32_t>;

struct Call {
  const OrderedJson body;
  Fields fields;
  std::shared_ptr<LoadedModel> model;

  Call(Service& service, const HttpRequest& request)
      : body(parse_body(request.body)),
        fields(body),
        model(acquire_model(service.models, fields.get_or<std::string>("model", ""))) {}
};

/// Errors of encoding are about the text, so they name its field.
Ids encode(LoadedModel& model, std::string_view text, text::EncodeOptions options, const std::string& param) {
  try {
    return model.tokenizer().encode(text, options);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::invalid_argument) throw;
    throw ApiError(error.code(), param, error.message(), error.hint());
  }
}

text::ChatRequest read_chat(Fields& fields) {
  text::ChatRequest chat;
  chat.messages = fields.require<OrderedJson>("messages");
  if (const OrderedJson* tools = fields.find("tools")) chat.tools = *tools;
  chat.add_generation_prompt = fields.get_or<bool>("add_generation_prompt", true);
  if (const OrderedJson* extra = fields.find("chat_template_kwargs")) chat.extra = *extra;
  fields.refuse("continue_final_message", "a conversation is encoded with its last message closed");
  fields.refuse("chat_template", "the server's template is used", "start the server with --chat-template");
  return chat;
}

// --- /tokenize ---

OrderedJson token_texts(const text::Tokenizer& tokenizer, const Ids& ids) {
  OrderedJson texts = OrderedJson::array();
  for (const std::int32_t id : ids) texts.push_back(tokenizer.token(id).value_or(""));
  return texts;
}

OrderedJson vllm_tokens(LoadedModel& model, Fields& fields, const Ids& ids) {
  OrderedJson reply = {{"count", ids.size()}, {"max_model_len", model.engine().plan().context}, {"tokens", ids}};
  const bool with_texts = fields.get_or<bool>("return_token_strs", false);
  reply["token_strs"] = with_texts ? token_texts(model.tokenizer(), ids) : OrderedJson(nullptr);
  return reply;
}

/// A piece is a text, or its bytes where they are not UTF-8 on their own.
OrderedJson piece(const text::Tokenizer& tokenizer, std::int32_t id) {
  const std::string bytes = tokenizer.token_bytes(id).value_or("");
  if (utf8_is_valid(bytes)) return bytes;
  OrderedJson list = OrderedJson::array();
  for (const char byte : bytes) list.push_back(static_cast<unsigned char>(byte));
  return list;
}

OrderedJson llama_tokens(LoadedModel& model, Fields& fields) {
  const auto content = fields.require<std::string>("content");
  text::EncodeOptions options;
  options.add_special = fields.get_or<bool>("add_special", false);
  options.parse_special = fields.get_or<bool>("parse_special", true);
  const Ids ids = encode(model, content, options, "content");
  if (!fields.get_or<bool>("with_pieces", false)) return {{"tokens", ids}};
  OrderedJson tokens = OrderedJson::array();
  for (const std::int32_t id : ids) tokens.push_back({{"id", id}, {"piece", piece(model.tokenizer(), id)}});
  return {{"tokens", std::move(tokens)}};
}

OrderedJson tokens_of(LoadedModel& model, Fields& fields) {
  if (fields.has("content")) return llama_tokens(model, fields);
  if (fields.has("messages")) {
    const text::ChatRequest chat = read_chat(fields);
    fields.refuse("add_special_tokens", "the chat template writes special tokens itself");
    return vllm_tokens(model, fields, text::encode_chat(model.tokenizer(), model.chat_template(), chat));
  }
  if (!fields.has("prompt")) {
    throw ApiError(ErrorCode::invalid_argument, "prompt", "prompt is missing", "give prompt, messages or content",
                   "missing_required_parameter");
  }
  const auto prompt = fields.require<std::string>("prompt");
  const text::EncodeOptions options{fields.get_or<bool>("add_special_tokens", true), true};
  return vllm_tokens(model, fields, encode(model, prompt, options, "prompt"));
}

HttpReply tokenize(Service& service, const HttpRequest& request) {
  Call call(service, request);
  OrderedJson reply = tokens_of(*call.model, call.fields);
  report_unknown(call.fields, "/tokenize", service.options.strict);
  return json_reply(reply);
}

// --- The others ---

Ids require_ids(LoadedModel& model, Fields& fields, const char* key) {
  const Ids ids = fields.require<Ids>(key);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= 0 && ids[i] < model.tokenizer().vocab_size()) continue;
    const std::string param = std::string(key) + "[" + std::to_string(i) + "]";
    refuse_field(param, param + " is " + std::to_string(ids[i]) + ", but the vocabulary has ids 0 to " +
                            std::to_string(model.tokenizer().vocab_size() - 1));
  }
  return ids;
}

HttpReply detokenize(Service& service, const HttpRequest& request) {
  Call call(service, request);
  const Ids ids = require_ids(*call.model, call.fields, "tokens");
  const std::string text = call.model->tokenizer().decode(ids, call.fields.get_or<bool>("skip_special_tokens", false));
  report_unknown(call.fields, "/detokenize", service.options.strict);
  return json_reply({{"prompt", text}, {"content", text}});
}

HttpReply apply_template(Service& service, const HttpRequest& request) {
  Call call(service, request);
  const text::ChatRequest chat = read_chat(call.fields);
  report_unknown(call.fields, "/apply-template", service.options.strict);
  return json_reply({{"prompt", call.model->chat_template().render(chat).text}});
}

OrderedJson spelled(const text::Tokenizer& tokenizer, std::optional<std::int32_t> id) {
  const auto token = id ? tokenizer.token(*id) : std::nullopt;
  return token ? OrderedJson(*token) : OrderedJson(nullptr);
}

/// vLLM's route, which tells clients that tokenize by /tokenize what else they must know. The model is the default one.
HttpReply tokenizer_info(Service& service, const HttpRequest&) {
  const auto model = service.models.acquire("");
  const text::Tokenizer& tokenizer = model->tokenizer();
  const text::SpecialIds& ids = tokenizer.special_ids();
  OrderedJson info = {{"tokenizer_class", "bittern"}, {"vocab_size", tokenizer.vocab_size()}};
  info["model_max_length"] = model->engine().plan().context;
  info["bos_token"] = spelled(tokenizer, ids.bos);
  info["eos_token"] = spelled(tokenizer, ids.eos);
  info["pad_token"] = spelled(tokenizer, ids.pad);
  info["unk_token"] = spelled(tokenizer, ids.unk);
  info["chat_template"] =
      model->has_chat_template() ? OrderedJson(model->chat_template().source()) : OrderedJson(nullptr);
  return json_reply(info);
}

HttpReply encode_as_lmdeploy(Service& service, const HttpRequest& request) {
  Call call(service, request);
  const bool one = call.fields.has("input") && call.fields.find("input")->is_string();
  if (!call.fields.has("input")) call.fields.require<std::string>("input");
  const text::EncodeOptions options{call.fields.get_or<bool>("add_bos", true), true};
  call.fields.refuse("do_preprocess", "the input is encoded as it is", "POST /tokenize with messages");
  std::vector<Ids> all;
  for (const std::string& text : call.fields.strings("input"))
    all.push_back(encode(*call.model, text, options, "input"));
  report_unknown(call.fields, "/v1/encode", service.options.strict);
  if (one) return json_reply({{"input_ids", all[0]}, {"length", all[0].size()}});
  OrderedJson lengths = OrderedJson::array();
  for (const Ids& ids : all) lengths.push_back(ids.size());
  return json_reply({{"input_ids", all}, {"length", std::move(lengths)}});
}

}  // namespace

void add_tokenize_routes(Routes& routes, Service& service) {
  const auto add = [&](const char* path, HttpReply (*answer)(Service&, const HttpRequest&)) {
    routes.push_back(
        {"POST", path, [&service, answer](const HttpRequest& request) { return answer(service, request); }});
  };
  add("/tokenize", tokenize);
  add("/detokenize", detokenize);
  add("/apply-template", apply_template);
  add("/v1/encode", encode_as_lmdeploy);
  routes.push_back(
      {"GET", "/tokenizer_info", [&service](const HttpRequest& request) { return tokenizer_info(service, request); }});
}

}  // namespace bittern::server
