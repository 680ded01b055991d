// after_load(): lets a route ask for its model as if it were always there. While the model loads, the request waits
// outside of any thread and its handler then runs again from the start, so a handler has no effects before it acquires.
#pragma once

#include "server/http/message.h"
#include "server/model_pool.h"

namespace bittern::server {

/// `handler`, which may throw ModelLoading; then the reply comes later. `models` must outlive it.
Handler after_load(ModelPool& models, Handler handler);

}  // namespace bittern::server
