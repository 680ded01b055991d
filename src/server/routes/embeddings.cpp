// POST /v1/embeddings: what the model makes of a text as a vector: its last hidden states after the final norm, their
// mean or the last token's, scaled to length 1. A chat model's are usable, those of a model trained for it are better.
#include <fmt/core.h>

#include <bit>
#include <cmath>

#include "server/generation/generation.h"
#include "server/generation/prompts.h"
#include "server/model_pool.h"
#include "server/routes/json_reply.h"
#include "server/routes/routes.h"
#include "server/serve_options.h"
#include "server/server_metrics.h"

namespace bittern::server {
namespace {

using Vector = std::vector<float>;

void normalize(Vector& vector) {
  double squares = 0;
  for (const float x : vector) squares += static_cast<double>(x) * x;
  if (squares <= 0) return;
  for (float& x : vector) x = static_cast<float>(x / std::sqrt(squares));
}

/// RFC 4648, of the numbers' bytes in little endian, as OpenAI sends them.
std::string base64(const Vector& vector) {
  static_assert(std::endian::native == std::endian::little);
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const std::string_view bytes(reinterpret_cast<const char*>(vector.data()), vector.size() * sizeof(float));
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t triple = 0;
    for (std::size_t k = 0; k < 3; ++k) {
      triple = triple << 8 | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0u);
    }
    for (std::size_t k = 0; k < 4; ++k) text += i + k > bytes.size() ? '=' : kDigits[triple >> (18 - 6 * k) & 63];
  }
  return text;
}

struct Asked {
  std::string model_name;
  bool as_base64 = false;
  std::int64_t dimensions = 0;  // 0: all
};

/// Waits for the vectors of all inputs. Destroying it cancels what still runs.
class Embeddings final : public LaterReply {
 public:
  Embeddings(std::shared_ptr<LoadedModel> model, ServerMetrics& metrics, Asked asked)
      : model_(std::move(model)), asked_(std::move(asked)), timer_(metrics.start(asked_.model_name)) {}

  void submit(std::vector<std::int32_t> prompt, Pooling pooling, const HttpRequest& http) {
    tokens_ += static_cast<std::int64_t>(prompt.size());
    Request request;
    request.prompt = std::move(prompt);
    request.pooling = pooling;
    request.client = http.client;
    request.id = http.id;
    streams_.push_back(model_->engine().submit(std::move(request)));
  }

  void start(Wake wake) override {
    for (const auto& stream : streams_) stream->on_events(wake);
  }

  std::optional<HttpReply> poll() override {
    while (ended_ < streams_.size()) {
      bool timed_out = false;
      const auto event = streams_[ended_]->next_for(std::chrono::milliseconds(0), timed_out);
      if (timed_out) return std::nullopt;
      if (!event) {
        ++ended_;
      } else if (event->finish == FinishReason::failed || event->finish == FinishReason::cancelled) {
        timer_->finish("error");
        throw Error(ErrorCode::internal, "no embedding was made: " + event->error);
      }
    }
    timer_->prompt(tokens_, 0);
    timer_->finish("stop");
    return reply();
  }

 private:
  HttpReply reply() const {
    OrderedJson data = OrderedJson::array();
    for (std::size_t i = 0; i < streams_.size(); ++i) {
      Vector vector = streams_[i]->embedding();
      if (asked_.dimensions > 0) vector.resize(static_cast<std::size_t>(asked_.dimensions));
      normalize(vector);
      OrderedJson entry = {{"object", "embedding"}, {"index", i}};
      entry["embedding"] = asked_.as_base64 ? OrderedJson(base64(vector)) : OrderedJson(vector);
      data.push_back(std::move(entry));
    }
    return json_reply({{"object", "list"},
                       {"data", std::move(data)},
                       {"model", asked_.model_name},
                       {"usage", {{"prompt_tokens", tokens_}, {"total_tokens", tokens_}}}});
  }

  std::shared_ptr<LoadedModel> model_;
  Asked asked_;
  std::unique_ptr<RequestTimer> timer_;
  std::vector<std::unique_ptr<TokenStream>> streams_;  // of each input
  std::size_t ended_ = 0;
  std::int64_t tokens_ = 0;
};

void check_length(const Prompts& prompts, LoadedModel& model) {
  const std::int64_t context = model.engine().plan().context;
  for (const auto& prompt : prompts.tokens) {
    const auto tokens = static_cast<std::int64_t>(prompt.size());
    if (tokens > context) {
      throw ApiError(ErrorCode::invalid_argument, "input",
                     fmt::format("an input has {} tokens, but the context holds {}", tokens, context), "cut it",
                     "context_length_exceeded");
    }
  }
  for (const std::string& text : prompts.texts) {
    if (text.empty()) refuse_field("input", "an input is empty");
  }
}

HttpReply answer(Service& service, const HttpRequest& http) {
  const OrderedJson body = parse_body(http.body);
  Fields fields(body);
  Asked asked;
  asked.model_name = served_name(service.models, fields.get_or<std::string>("model", ""));
  const auto model = acquire_model(service.models, asked.model_name);
  asked.as_base64 = fields.choice("encoding_format", {"float", "base64"}) == "base64";
  asked.dimensions = fields.in_range<std::int64_t>("dimensions", 0, 0, model->model().config().hidden);
  const bool last = fields.choice("pooling", {"mean", "last"}) == "last";
  const bool add_special = fields.get_or<bool>("add_special_tokens", true);
  Prompts prompts = read_prompts(fields, "input", *model, add_special, true);
  fields.accept({"user"});
  report_unknown(fields, "/v1/embeddings", service.options.strict);
  check_length(prompts, *model);
  auto later = std::make_unique<Embeddings>(model, service.metrics, std::move(asked));
  for (auto& prompt : prompts.tokens) later->submit(std::move(prompt), last ? Pooling::last : Pooling::mean, http);
  HttpReply reply;
  reply.later = std::move(later);
  return reply;
}

}  // namespace

void add_embeddings_routes(Routes& routes, Service& service) {
  routes.push_back({"POST", "/v1/embeddings", [&](const HttpRequest& http) { return answer(service, http); }});
}

}  // namespace bittern::server
