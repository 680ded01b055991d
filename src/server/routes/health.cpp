// What watches the server asks: is it up, may it be sent work, how far is loading; its version, and its metrics.
#include <bittern/version.h>

#include <algorithm>

#include "server/model_pool.h"
#include "server/routes/json_reply.h"
#include "server/routes/routes.h"
#include "server/server_metrics.h"

namespace bittern::server {
namespace {

bool is_draining(const Service& service) { return service.draining != nullptr && service.draining->load(); }

/// "loading" until the default model has been loaded once, "failed" if it could not be, then "ready", at last
/// "draining".
std::string_view phase_of(const Service& service, const std::vector<ModelCard>& cards) {
  if (is_draining(service)) return "draining";
  const auto has = [&](ModelStatus status) {
    return std::any_of(cards.begin(), cards.end(), [&](const ModelCard& card) { return card.status == status; });
  };
  if (has(ModelStatus::loaded)) return "ready";
  if (has(ModelStatus::loading)) return "loading";
  if (has(ModelStatus::failed)) return "failed";
  return "ready";  // nothing is loaded because nobody asks: the next request loads
}

HttpReply phase_reply(const Service& service, bool (*good)(std::string_view phase)) {
  const std::vector<ModelCard> cards = service.models.list();
  const std::string_view phase = phase_of(service, cards);
  OrderedJson models = OrderedJson::array();
  for (const ModelCard& card : cards) {
    OrderedJson model = {{"id", card.name}, {"status", model_status_name(card.status)}};
    if (card.status == ModelStatus::loading) model["progress"] = card.progress;
    if (!card.error.empty()) model["error"] = card.error;
    models.push_back(std::move(model));
  }
  HttpReply reply = json_reply({{"status", phase}, {"models", std::move(models)}});
  reply.status = good(phase) ? 200 : 503;
  return reply;
}

/// 503 while a step of some engine takes so long that something must be wrong.
HttpReply alive_reply(const Service& service) {
  double stalled = 0;
  for (const auto& [name, model] : service.models.loaded()) {
    stalled = std::max(stalled, model->engine().stats().stalled_seconds);
  }
  HttpReply reply = json_reply({{"status", stalled > 0 ? "stalled" : "alive"}, {"stalled_seconds", stalled}});
  if (stalled > 0) reply.status = 503;
  return reply;
}

void add(Routes& routes, const char* path, Handler handler) {
  Route route{"GET", path, std::move(handler)};
  route.needs_key = false;
  routes.push_back(std::move(route));
}

}  // namespace

void add_health_routes(Routes& routes, Service& service) {
  const auto ready = [](std::string_view phase) { return phase == "ready"; };
  const auto started = [](std::string_view phase) { return phase == "ready" || phase == "draining"; };
  add(routes, "/health", [&, ready](const HttpRequest&) { return phase_reply(service, ready); });
  add(routes, "/readyz", [&, ready](const HttpRequest&) { return phase_reply(service, ready); });
  add(routes, "/startupz", [&, started](const HttpRequest&) { return phase_reply(service, started); });
  add(routes, "/livez", [&](const HttpRequest&) { return alive_reply(service); });
  routes.push_back({"GET", "/version", [](const HttpRequest&) { return json_reply({{"version", kVersion}}); }});
  routes.push_back({"GET", "/metrics", [&](const HttpRequest&) {
                      HttpReply reply;
                      reply.content_type = "text/plain; version=0.0.4; charset=utf-8";
                      reply.body = service.metrics.render(service.models);
                      return reply;
                    }});
}

}  // namespace bittern::server
