// What every route is given: the models, the metrics and the server's settings. Each routes/*.cpp adds its rows to the
// table with one function (routes/routes.h); a route holds references into the Service, which outlives the listener.
#pragma once

#include <atomic>
#include <vector>

#include "server/http/message.h"

namespace bittern::server {

class ModelPool;
class ServerMetrics;
struct ServeOptions;

struct Service {
  ModelPool& models;
  ServerMetrics& metrics;
  const ServeOptions& options;
  const std::atomic<bool>* draining = nullptr;  // set once the server takes no more work
};

using Routes = std::vector<Route>;

}  // namespace bittern::server
