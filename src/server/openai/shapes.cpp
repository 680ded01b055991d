// Building the shared parts of replies.
#include "server/openai/shapes.h"

#include <bittern/version.h>
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <random>

#include "base/strings.h"
#include "server/model_pool.h"

namespace bittern::server {
namespace {

std::int64_t unix_now() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

/// Equal for servers whose answers are equal for equal seeds: the same program, model and KV precision.
std::string fingerprint_of(const LoadedModel& model) {
  const std::string what = fmt::format("{}|{}|{}", kVersion, model.files().origin(),
                                       const_cast<LoadedModel&>(model).engine().plan().kv_format);
  return fmt::format("fp_{:016x}", std::hash<std::string>()(what));
}

OrderedJson byte_list(const std::string& bytes) {
  OrderedJson list = OrderedJson::array();
  for (unsigned char byte : bytes) list.push_back(static_cast<int>(byte));
  return list;
}

OrderedJson token_json(const TokenSpeller& speller, std::int32_t token, float logprob) {
  return {{"token", speller.name(token)}, {"logprob", logprob}, {"bytes", byte_list(speller.bytes(token))}};
}

void add_scored(OrderedJson& into, const TokenSpeller& speller, std::int32_t token, float logprob, OrderedJson rank) {
  into[std::to_string(token)] = {
      {"logprob", logprob}, {"rank", std::move(rank)}, {"decoded_token", speller.name(token)}};
}

OrderedJson scored(const TokenSpeller& speller, const TokenEvent& event) {
  OrderedJson entry = OrderedJson::object();
  add_scored(entry, speller, event.token, event.logprob, nullptr);
  for (std::size_t i = 0; i < event.top.size(); ++i) {
    add_scored(entry, speller, event.top[i].token, event.top[i].logprob, i + 1);
  }
  return entry;
}

}  // namespace

ReplyHead make_head(std::string_view prefix, std::string_view object, const GenerationSettings& settings,
                    const HttpRequest& request, const std::string& model_name, const LoadedModel& model) {
  ReplyHead head;
  const std::string& id = settings.request_id.empty() ? request.id : settings.request_id;
  head.id = id.empty() ? random_id(prefix, 24) : std::string(prefix) + id;
  head.object = object;
  head.created = unix_now();
  head.model = model_name;
  head.fingerprint = fingerprint_of(model);
  return head;
}

OrderedJson to_json(const ReplyHead& head) {
  return {{"id", head.id},
          {"object", head.object},
          {"created", head.created},
          {"model", head.model},
          {"system_fingerprint", head.fingerprint}};
}

OrderedJson to_json(const Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.completion_tokens},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens},
          {"prompt_tokens_details", {{"cached_tokens", usage.cached_tokens}}},
          {"completion_tokens_details", {{"reasoning_tokens", usage.reasoning_tokens}}}};
}

std::string random_id(std::string_view prefix, int length) {
  constexpr std::string_view kLetters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  thread_local std::mt19937_64 engine{std::random_device{}()};
  std::uniform_int_distribution<std::size_t> letter(0, kLetters.size() - 1);
  std::string id(prefix);
  for (int i = 0; i < length; ++i) id += kLetters[letter(engine)];
  return id;
}

std::string TokenSpeller::name(std::int32_t token) const {
  return as_ids_ ? fmt::format("token_id:{}", token) : utf8_sanitize(bytes(token));
}

OrderedJson chat_logprob(const TokenSpeller& speller, const TokenEvent& token) {
  OrderedJson json = token_json(speller, token.token, token.logprob);
  json["top_logprobs"] = OrderedJson::array();
  for (const TokenLogprob& top : token.top) json["top_logprobs"].push_back(token_json(speller, top.token, top.logprob));
  return json;
}

OrderedJson prompt_logprobs_json(const TokenSpeller& speller, const std::vector<TokenEvent>& scores) {
  OrderedJson list = OrderedJson::array();
  for (std::size_t i = 0; i < scores.size(); ++i) {
    list.push_back(i == 0 ? OrderedJson(nullptr) : scored(speller, scores[i]));
  }
  return list;
}

OrderedJson stop_reason(const std::string& stop, const TokenEvent& token, const GenerationSettings& settings) {
  if (!stop.empty()) return stop;
  const auto& ids = settings.sampling.stop_ids;
  if (std::find(ids.begin(), ids.end(), token.stop_token) != ids.end()) return token.stop_token;
  return nullptr;
}

Error choice_failure(const TokenEvent& token, std::string_view finish) {
  if (finish == "cancelled") return Error(ErrorCode::overloaded, "the server stopped this request", "send it again");
  return Error(ErrorCode::internal, token.error.empty() ? "the request failed" : token.error);
}

}  // namespace bittern::server
