// The models of the server: the OpenAI API's list and card, with the state of each, and llama-server's routes to load
// and unload one.

#include "server/after_load.h"
#include "server/generation/fields.h"
#include "server/routes/json_reply.h"
#include "server/routes/routes.h"
#include "server/serve_options.h"

namespace bittern::server {
namespace {

OrderedJson to_json(const ModelCard& card) {
  OrderedJson status = {{"value", model_status_name(card.status)}};
  if (card.status == ModelStatus::loading) status["progress"] = card.progress;
  if (!card.error.empty()) status["error"] = card.error;
  OrderedJson json = {{"id", card.name}, {"object", "model"}, {"created", card.created}, {"owned_by", "bittern"}};
  json["max_model_len"] = card.context > 0 ? OrderedJson(card.context) : OrderedJson(nullptr);
  json["status"] = std::move(status);
  if (card.loaded) json["memory_bytes"] = card.memory;
  return json;
}

ModelCard card_of(const ModelPool& models, const std::string& name) {
  const std::vector<ModelCard> cards = models.list();
  std::string names;
  for (const ModelCard& card : cards) {
    if (card.name == name) return card;
    names += (names.empty() ? "" : ", ") + card.name;
  }
  throw ApiError(ErrorCode::not_found, "model", "the model '" + name + "' does not exist", "this server has " + names,
                 "model_not_found");
}

HttpReply list_models(const Service& service) {
  OrderedJson data = OrderedJson::array();
  for (const ModelCard& card : service.models.list()) data.push_back(to_json(card));
  return json_reply({{"object", "list"}, {"data", std::move(data)}});
}

std::string last_part(const std::string& path, std::string_view prefix) { return path.substr(prefix.size()); }

std::string model_of(const Service& service, const HttpRequest& request, std::string_view route) {
  const OrderedJson body = parse_body(request.body);
  Fields fields(body);
  const auto name = fields.require<std::string>("model");
  report_unknown(fields, route, service.options.strict);
  return card_of(service.models, name).name;
}

HttpReply success(const ModelPool& models, const std::string& name) {
  return json_reply({{"success", true}, {"model", to_json(card_of(models, name))}});
}

/// Answers when the model is there, or with the error of the load.
HttpReply load_model(Service& service, const HttpRequest& request) {
  const std::string name = model_of(service, request, "/models/load");
  service.models.start_load(name);
  return after_load(service.models, [&service, name](const HttpRequest&) {
    service.models.acquire(name);
    return success(service.models, name);
  })(request);
}

HttpReply unload_model(Service& service, const HttpRequest& request) {
  const std::string name = model_of(service, request, "/models/unload");
  service.models.unload(name);
  return success(service.models, name);
}

}  // namespace

void add_models_routes(Routes& routes, Service& service) {
  const auto list = [&service](const HttpRequest&) { return list_models(service); };
  routes.push_back({"GET", "/v1/models", list});
  routes.push_back({"GET", "/models", list});
  routes.push_back({"GET", "/v1/models/{name}", [&service](const HttpRequest& request) {
                      return json_reply(to_json(card_of(service.models, last_part(request.path, "/v1/models/"))));
                    }});
  routes.push_back(
      {"POST", "/models/load", [&service](const HttpRequest& request) { return load_model(service, request); }});
  routes.push_back(
      {"POST", "/models/unload", [&service](const HttpRequest& request) { return unload_model(service, request); }});
}

}  // namespace bittern::server
