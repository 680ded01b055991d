// All routes, in the order in which documentation lists them. One line a file: add_X_routes(routes, service).
#include "server/routes/routes.h"

namespace bittern::server {

Routes all_routes(Service& /*service*/) {
  Routes routes;
  return routes;
}

}  // namespace bittern::server
