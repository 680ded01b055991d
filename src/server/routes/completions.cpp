// POST /v1/completions: plain prompts, as text or tokens, one or many.
#include <fmt/core.h>

#include "server/openai/completion_reply.h"
#include "server/routes/json_reply.h"
#include "server/routes/routes.h"
#include "server/serve_options.h"

namespace bittern::server {
namespace {

constexpr int kDefaultMaxTokens = 16;  // the OpenAI API's
constexpr std::size_t kMostPrompts = 2048;

struct Prompts {
  std::vector<std::vector<std::int32_t>> tokens;
  std::vector<std::string> texts;
};

class PromptReader {
 public:
  PromptReader(const LoadedModel& model, bool add_special, bool skip_special)
      : model_(model), add_special_(add_special), skip_special_(skip_special) {}

  Prompts read(const OrderedJson& value) {
    if (value.is_string()) {
      add_text(value);
    } else if (!value.is_array()) {
      refuse_field("prompt",
                   "prompt must be a text, a list of texts, a list of token ids, or a list of such lists, "
                   "but it is " +
                       describe_json(Json(value)));
    } else if (value.empty()) {
      refuse_field("prompt", "prompt is empty");
    } else if (value[0].is_number()) {
      add_ids(value, "prompt");
    } else {
      read_list(value);
    }
    return std::move(prompts_);
  }

 private:
  void read_list(const OrderedJson& list) {
    if (list.size() > kMostPrompts) {
      refuse_field("prompt",
                   fmt::format("prompt has {} entries, but at most {} are allowed", list.size(), kMostPrompts));
    }
    for (std::size_t i = 0; i < list.size(); ++i) {
      const std::string param = fmt::format("prompt[{}]", i);
      if (list[i].is_string()) {
        add_text(list[i]);
      } else if (list[i].is_array()) {
        add_ids(list[i], param);
      } else {
        refuse_field(param, fmt::format("{} must be a text or a list of token ids, but it is {}", param,
                                        describe_json(Json(list[i]))));
      }
    }
  }

  void add_text(const OrderedJson& value) {
    const auto& text = value.get_ref<const std::string&>();
    prompts_.tokens.push_back(model_.tokenizer().encode(text, {.add_special = add_special_, .parse_special = true}));
    prompts_.texts.push_back(text);
  }

  void add_ids(const OrderedJson& value, const std::string& param) {
    std::vector<std::int32_t> ids;
    for (std::size_t i = 0; i < value.size(); ++i) ids.push_back(token(value[i], fmt::format("{}[{}]", param, i)));
    prompts_.texts.push_back(model_.tokenizer().decode(ids, skip_special_));
    prompts_.tokens.push_back(std::move(ids));
  }

  std::int32_t token(const OrderedJson& value, const std::string& param) const {
    const std::int64_t vocabulary = model_.tokenizer().vocab_size();
    if (!value.is_number_integer()) {
      refuse_field(param, fmt::format("{} must be a token id, but it is {}", param, describe_json(Json(value))));
    }
    const auto id = value.get<std::int64_t>();
    if (id >= 0 && id < vocabulary) return static_cast<std::int32_t>(id);
    refuse_field(param, fmt::format("{} is {}, but the vocabulary has {} tokens", param, id, vocabulary));
  }

  const LoadedModel& model_;
  bool add_special_, skip_special_;
  Prompts prompts_;
};

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
  const auto name = fields.get_or<std::string>("model", "");
  const auto model = acquire_model(service.models, name);
  CompletionOptions options = read_options(fields);
  const bool add_special = fields.get_or("add_special_tokens", true);
  Prompts prompts =
      PromptReader(*model, add_special, options.settings.skip_special).read(fields.require<OrderedJson>("prompt"));
  report_unknown(fields, "/v1/completions", service.options.strict);
  options.prompt_texts = std::move(prompts.texts);
  options.settings.client = http.client;
  options.head =
      make_head("cmpl-", "text_completion", options.settings, http, resolved_model_name(service, name), *model);
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
