// Field by field. Names are those of the OpenAI API, then vLLM's; LMDeploy's synonyms are noted.
#include "server/generation/settings.h"

#include <fmt/core.h>

#include <limits>

namespace bittern::server {
namespace {

constexpr int kMaxInt = std::numeric_limits<int>::max();
constexpr std::size_t kMostStops = 64;

/// top_k has two spellings of "off".
int read_top_k(Fields& fields) {
  const int top_k = fields.in_range("top_k", 0, -1, 1 << 30);
  return top_k == -1 ? 0 : top_k;
}

double read_top_p(Fields& fields) {
  const double top_p = fields.in_range("top_p", 1.0, 0.0, 1.0);
  if (top_p == 0) refuse_field(fields.param("top_p"), "top_p is 0, but must be above 0 and at most 1");
  return top_p;
}

/// An id as a JSON key: digits alone.
std::int32_t token_of_key(const std::string& key, const std::string& param) {
  const bool digits = !key.empty() && key.size() <= 9 && key.find_first_not_of("0123456789") == std::string::npos;
  if (!digits) refuse_field(param, fmt::format("{} has the key '{}', which is not a token id", param, key));
  return std::stoi(key);
}

std::map<std::int32_t, float> read_logit_bias(Fields& fields) {
  std::map<std::int32_t, float> bias;
  const OrderedJson* value = fields.find("logit_bias");
  if (value == nullptr) return bias;
  Fields entries(*value, fields.param("logit_bias"));
  for (const auto& item : value->items()) {
    const std::int32_t token = token_of_key(item.key(), fields.param("logit_bias"));
    bias[token] = static_cast<float>(entries.in_range(item.key(), 0.0, -100.0, 100.0));
  }
  return bias;
}

/// Integers of either sign are seeds; LMDeploy's clients call it random_seed.
std::optional<std::uint64_t> read_seed(Fields& fields) {
  for (const char* key : {"seed", "random_seed"}) {
    const OrderedJson* value = fields.find(key);
    if (value == nullptr) continue;
    if (value->is_number_unsigned()) return value->get<std::uint64_t>();
    return static_cast<std::uint64_t>(*fields.get<std::int64_t>(key));
  }
  return std::nullopt;
}

void read_sampling(Fields& fields, SamplingParams& sampling) {
  sampling.temperature = fields.in_range("temperature", 1.0, 0.0, 2.0);
  if (sampling.temperature < 1e-5) sampling.temperature = 0;  // closer to greedy than f32 can tell
  sampling.top_p = read_top_p(fields);
  sampling.top_k = read_top_k(fields);
  sampling.min_p = fields.in_range("min_p", 0.0, 0.0, 1.0);
  sampling.repetition_penalty = fields.in_range("repetition_penalty", 1.0, 0.01, 100.0);
  sampling.presence_penalty = fields.in_range("presence_penalty", 0.0, -2.0, 2.0);
  sampling.frequency_penalty = fields.in_range("frequency_penalty", 0.0, -2.0, 2.0);
  sampling.logit_bias = read_logit_bias(fields);
  sampling.seed = read_seed(fields);
  sampling.ignore_eos = fields.get_or("ignore_eos", false);
  sampling.min_tokens = fields.in_range("min_tokens", 0, 0, kMaxInt);
  if (const int fewest = fields.in_range("min_new_tokens", 0, 0, kMaxInt)) sampling.min_tokens = fewest;
  sampling.stop_ids = fields.get_or("stop_token_ids", std::vector<std::int32_t>());
  sampling.prompt_logprobs = fields.in_range("prompt_logprobs", -1, -1, kMostLogprobs);
}

std::vector<std::string> read_stop(Fields& fields) {
  std::vector<std::string> stop = fields.strings("stop");
  const std::string param = fields.param("stop");
  if (stop.size() > kMostStops) {
    refuse_field(param, fmt::format("{} has {} texts, but at most {} are allowed", param, stop.size(), kMostStops));
  }
  for (const std::string& text : stop) {
    if (text.empty()) refuse_field(param, fmt::format("{} has an empty text", param));
  }
  return stop;
}

void refuse_the_impossible(Fields& fields) {
  fields.refuse("use_beam_search", "there is no beam search", "use n or best_of");
  const double length_penalty = fields.get_or("length_penalty", 1.0);
  if (length_penalty != 1.0) fields.refuse("length_penalty", "there is no beam search");
  if (!fields.get_or("spaces_between_special_tokens", true)) {
    refuse_field("spaces_between_special_tokens",
                 "spaces_between_special_tokens is not supported: text is what the "
                 "tokenizer's decoder makes of the tokens");
  }
  fields.refuse("logits_processors", "code is not taken from requests");
  fields.refuse("thinking_token_budget", "the length of reasoning cannot be bounded by itself", "use max_tokens");
  fields.refuse("repetition_ngram_size", "repeated runs of tokens are not detected");
  fields.refuse("kv_transfer_params", "the KV cache is not moved between servers");
  fields.refuse("vllm_xargs", "there are no plug-ins");
  // Who asks, how it is billed and where caches may help: nothing here depends on it.
  fields.accept({"model", "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key",
                 "prompt_cache_retention", "session_id"});
}

}  // namespace

GenerationSettings read_generation_settings(Fields& fields) {
  GenerationSettings settings;
  read_sampling(fields, settings.sampling);
  settings.n = fields.in_range("n", 1, 1, kMostSamples);
  settings.priority = fields.get_or("priority", 0);
  settings.request_id = fields.get_or<std::string>("request_id", "");
  settings.cache_salt = fields.get_or<std::string>("cache_salt", "");
  settings.stop = read_stop(fields);
  settings.include_stop = fields.get_or("include_stop_str_in_output", false);
  settings.skip_special = fields.get_or("skip_special_tokens", true);
  settings.allowed_tokens = fields.get_or("allowed_token_ids", std::vector<std::int32_t>());
  if (fields.has("allowed_token_ids") && settings.allowed_tokens.empty()) {
    refuse_field("allowed_token_ids", "allowed_token_ids is empty, so that no token may come");
  }
  settings.bad_words = fields.strings("bad_words");
  if (fields.has("truncate_prompt_tokens")) {
    settings.truncate_prompt = fields.in_range("truncate_prompt_tokens", -1, -1, kMaxInt);
    if (*settings.truncate_prompt == 0) refuse_field("truncate_prompt_tokens", "truncate_prompt_tokens is 0");
  }
  settings.constraint = read_constraint(fields);
  settings.return_token_ids = fields.get_or("return_token_ids", false);
  settings.tokens_as_ids = fields.get_or("return_tokens_as_token_ids", false);
  settings.stream.stream = fields.get_or("stream", false);
  // Sent by some clients also without "stream", where it means nothing.
  if (const OrderedJson* options = fields.find("stream_options")) {
    Fields inner(*options, "stream_options");
    settings.stream.include_usage = inner.get_or("include_usage", false);
    settings.stream.continuous_usage = inner.get_or("continuous_usage_stats", false);
    inner.accept({"include_obfuscation"});
  }
  refuse_the_impossible(fields);
  return settings;
}

}  // namespace bittern::server
