// POST /v1/completions: plain prompts, as text or tokens, one or many.
#include <fmt/core.h>

#include "server/generation/prompts.h"
#include "server/openai/completion_reply.h"
#include "server/routes/json_reply.h"
#include "server/routes/routes.h"
#include "server/serve_options.h"

namespace bittern::server {
namespace {

constexpr int kDefaultMaxTokens = 16;  // the OpenAI API's

/// best_of samples are made, of which n are shown.
void read_best_of(Fields& fields, CompletionOptions& options) {
  options.shown = options.settings.n;
  const int best_of = fields.in_range("best_of", options.shown, 1, kMostSamples);
  if (best_of < options.shown) {
    refuse_field("best_of", fmt::format("best_of is {}, less than n, which is {}", best_of, options.shown));
  }
  if (best_of > options.shown && options.settings.stream.stream) {
    refuse_field("best_of", "best_of cannot be streamed: which samples are best is known at the end");
  }
  options.settings.n = best_of;
  if (best_of > options.shown) {
    options.settings.sampling.logprobs = std::max(options.settings.sampling.logprobs, 0);
  }
}

CompletionOptions read_options(Fields& fields) {
  CompletionOptions options;
  options.settings = read_generation_settings(fields);
  options.settings.max_tokens = fields.in_range("max_tokens", kDefaultMaxTokens, 0, 1 << 30);
  options.echo = fields.get_or("echo", false);
  options.logprobs = fields.has("logprobs");
  if (options.logprobs) {
    options.settings.sampling.logprobs = fields.in_range("logprobs", 0, 0, kMostLogprobs);
    if (options.echo) options.settings.sampling.prompt_logprobs = options.settings.sampling.logprobs;
  }
  read_best_of(fields, options);
  fields.refuse("suffix", "text is not filled in before a suffix");
  if (options.settings.stream.stream && options.settings.sampling.prompt_logprobs >= 0 && !options.echo) {
    refuse_field("prompt_logprobs", "prompt_logprobs cannot be streamed");
  }
  return options;
}

HttpReply complete(Service& service, const HttpRequest& http) {
  const OrderedJson body = parse_body(http.body);
  Fields fields(body);
  const std::string name = served_name(service.models, fields.get_or<std::string>("model", ""));
  const auto model = acquire_model(service.models, name);
  CompletionOptions options = read_options(fields);
  const bool add_special = fields.get_or("add_special_tokens", true);
  Prompts prompts = read_prompts(fields, "prompt", *model, add_special, options.settings.skip_special);
  report_unknown(fields, "/v1/completions", service.options.strict);
  options.prompt_texts = std::move(prompts.texts);
  options.settings.client = http.client;
  options.head = make_head("cmpl-", "text_completion", options.settings, http, name, *model);
  Generation::Input input{std::move(prompts.tokens), "prompt", name, false};
  auto generation = std::make_unique<Generation>(model, service.metrics, std::move(input), options.settings);
  if (options.settings.stream.stream) {
    auto writer = make_completion_stream(*generation, std::move(options));
    return stream_reply(std::move(generation), std::move(writer));
  }
  const auto reply = std::make_shared<CompletionReply>(*generation, std::move(options));
  return whole_reply<Generation>(
      std::move(generation), [reply](const TextEvent& event) { reply->collect(event); },
      [reply](const Generation& ended) { return json_reply(reply->finish(ended)); });
}

}  // namespace

void add_completions_routes(Routes& routes, Service& service) {
  routes.push_back(
      {"POST", "/v1/completions", [&service](const HttpRequest& request) { return complete(service, request); }});
}

}  // namespace bittern::server
