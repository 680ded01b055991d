// POST /generate, LMDeploy's native route: a prompt as text or tokens in, text and tokens with their log-probabilities
// out. No chat template and no choices: one prompt, one sample.
#include "server/generation/generation.h"
#include "server/generation/replies.h"
#include "server/model_pool.h"
#include "server/routes/json_reply.h"
#include "server/routes/routes.h"
#include "server/serve_options.h"

namespace bittern::server {
namespace {

constexpr int kDefaultMaxTokens = 128;

/// What one reply or one event of a stream holds.
struct Piece {
  std::string text;
  std::vector<std::int32_t> tokens;
  std::vector<float> logprobs;
  FinishReason finish = FinishReason::none;

  void add(const TextEvent& event) {
    text += event.text;
    finish = event.finish;
    if (event.token.token < 0) return;
    tokens.push_back(event.token.token);
    logprobs.push_back(event.token.logprob);
  }
};

OrderedJson to_json(const Piece& piece, const Generation& generation, bool with_logprobs) {
  OrderedJson meta;
  const Usage usage = generation.usage();
  meta["prompt_tokens"] = usage.prompt_tokens;
  meta["completion_tokens"] = usage.completion_tokens;
  meta["finish_reason"] =
      piece.finish == FinishReason::none ? OrderedJson(nullptr) : OrderedJson{{"type", finish_name(piece.finish)}};
  meta["output_token_logprobs"] = nullptr;
  if (with_logprobs) {
    OrderedJson pairs = OrderedJson::array();
    for (std::size_t i = 0; i < piece.tokens.size(); ++i) {
      pairs.push_back(OrderedJson::array({piece.logprobs[i], piece.tokens[i]}));
    }
    meta["output_token_logprobs"] = std::move(pairs);
  }
  return {{"text", piece.text}, {"output_ids", piece.tokens}, {"meta_info", std::move(meta)}};
}

class Writer final : public StreamWriter<Generation> {
 public:
  explicit Writer(bool with_logprobs) : with_logprobs_(with_logprobs) {}

  void event(const Generation& generation, const TextEvent& event, std::string& out) override {
    Piece piece;
    piece.add(event);
    append_sse(out, {}, to_json(piece, generation, with_logprobs_));
  }
  void end(const Generation&, std::string& out) override { out += "data: [DONE]\n\n"; }

 private:
  bool with_logprobs_;
};

std::vector<std::int32_t> read_prompt(Fields& fields, const LoadedModel& model) {
  const bool text = fields.has("prompt"), ids = fields.has("input_ids");
  if (text == ids) {
    throw ApiError(ErrorCode::invalid_argument, text ? "input_ids" : "prompt",
                   text ? "prompt and input_ids are both given" : "prompt is missing", "give prompt or input_ids");
  }
  if (ids) return fields.require<std::vector<std::int32_t>>("input_ids");
  return model.encode_prompt(fields.require<std::string>("prompt"));
}

HttpReply generate(Service& service, const HttpRequest& request) {
  const OrderedJson body = parse_body(request.body);
  Fields fields(body);
  const std::string name = served_name(service.models, fields.get_or<std::string>("model", ""));
  const auto model = acquire_model(service.models, name);
  Generation::Input input;
  input.model_name = name;
  input.prompt_param = fields.has("input_ids") ? "input_ids" : "prompt";
  input.prompts = {read_prompt(fields, *model)};
  GenerationSettings settings = read_generation_settings(fields);
  settings.max_tokens = fields.in_range("max_tokens", kDefaultMaxTokens, 1, 1 << 30);
  if (settings.n != 1) fields.refuse("n", "this route makes one sample", "use /v1/completions");
  const bool with_logprobs = fields.get_or<bool>("return_logprob", false);
  settings.sampling.logprobs = with_logprobs ? 0 : -1;
  fields.refuse("image_data", "the models read text alone");
  fields.refuse("return_routed_experts", "experts are not reported");
  report_unknown(fields, "/generate", service.options.strict);
  const bool stream = settings.stream.stream;
  auto generation = std::make_unique<Generation>(model, service.metrics, std::move(input), settings);
  if (stream) return stream_reply<Generation>(std::move(generation), std::make_unique<Writer>(with_logprobs));
  const auto whole = std::make_shared<Piece>();
  return whole_reply<Generation>(
      std::move(generation), [whole](const TextEvent& event) { whole->add(event); },
      [whole, with_logprobs](const Generation& ended) { return json_reply(to_json(*whole, ended, with_logprobs)); });
}

}  // namespace

void add_generate_routes(Routes& routes, Service& service) {
  routes.push_back(
      {"POST", "/generate", [&service](const HttpRequest& request) { return generate(service, request); }});
}

}  // namespace bittern::server
