// Connection: one client, as a coroutine on the I/O thread that it was given: read a request, let a worker answer it,
// write the reply, and again. It watches for the client's leaving while it waits for a reply, and every wait has an
// end.
#pragma once

#include <utility>  // before asio: Boost 1.74's awaitable.hpp needs it

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/thread_pool.hpp>

#include <atomic>
#include <memory>
#include <unordered_set>

#include "server/http/gate.h"
#include "server/http/http_server.h"
#include "server/http/router.h"
#include "server/http/wake_hub.h"

namespace bittern::server {

/// What all connections share. Everything but the counters is set before the first one.
struct HttpShared {
  HttpShared(const ServeOptions& options_, std::vector<Route> routes, HttpObserver observer_)
      : options(options_),
        router(std::move(routes)),
        gate(options_.api_keys, options_.cors_origins),
        observer(std::move(observer_)),
        workers(static_cast<std::size_t>(options_.workers)) {}

  const ServeOptions& options;
  const Router router;
  const Gate gate;
  const HttpObserver observer;
  boost::asio::thread_pool workers;
  std::atomic<bool> draining{false};
  std::atomic<int> connections{0};
};

class Connection {
 public:
  virtual ~Connection() = default;
  // Both on the connection's own I/O thread.
  /// Closes if no request is under way; otherwise the reply says that this was the last.
  virtual void drain() = 0;
  virtual void abort() = 0;
};

/// The connections of one I/O thread; touched by that thread alone.
struct ConnectionSet {
  std::unordered_set<Connection*> all;
  std::shared_ptr<WakeHub> hub;
};

/// Serves `socket` until it closes; with `tls`, over TLS. `set` must outlive the connection.
void start_connection(boost::asio::ip::tcp::socket socket, std::shared_ptr<boost::asio::ssl::context> tls,
                      HttpShared& shared, ConnectionSet& set);

}  // namespace bittern::server
