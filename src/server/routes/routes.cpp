// All routes, in the order in which documentation lists them. One line a file: add_X_routes(routes, service).
#include "server/routes/routes.h"

#include "server/after_load.h"

namespace bittern::server {
namespace {

// Every handler may ask for a model that is not loaded yet.
Routes with_waiting(Routes routes, ModelPool& models) {
  for (Route& route : routes) route.handler = after_load(models, std::move(route.handler));
  return routes;
}

}  // namespace

Routes all_routes(Service& service) {
  Routes routes;
  add_health_routes(routes, service);
  add_chat_routes(routes, service);
  add_completions_routes(routes, service);
  add_embeddings_routes(routes, service);
  add_models_routes(routes, service);
  add_generate_routes(routes, service);
  add_messages_routes(routes, service);
  add_responses_routes(routes, service);
  add_tokenize_routes(routes, service);
  add_ui_routes(routes, service);
  return with_waiting(std::move(routes), service.models);
}

}  // namespace bittern::server
