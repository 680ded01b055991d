// HttpServer: listens, and answers each request with the Route that it finds. A few I/O threads hold all connections as
// coroutines, a few workers run the handlers; nothing here blocks on a client. TLS, keys, limits and time limits are
// those of ServeOptions; it knows nothing of models.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "server/http/message.h"
#include "server/serve_options.h"

namespace bittern::server {

/// One exchange, once it has ended.
struct ExchangeRecord {
  std::string id, client, method, path, route, traceparent;
  int status = 0;                             // 0: the client went away before there was one
  bool complete = false;                      // the whole reply was handed to the operating system
  std::uint64_t bytes_in = 0, bytes_out = 0;  // of bodies
  double seconds = 0;
};

/// What the server tells of its life; called on I/O threads, so each must be quick.
struct HttpObserver {
  std::function<void(const ExchangeRecord&)> exchange;
  std::function<void()> accept_failed;  // out of file descriptors, most likely
};

class HttpServer {
 public:
  /// Binds and listens, so that clients may connect; they are served after start(). Error(io) names the address and the
  /// reason; Error(invalid_argument) for a certificate or key that cannot be used. `options` must outlive it.
  HttpServer(const ServeOptions& options, std::vector<Route> routes, HttpObserver observer);
  ~HttpServer();  // as stop()

  void start();
  /// The port in use, also where options say 0.
  std::uint16_t port() const;
  /// "http://127.0.0.1:8000"
  std::string url() const;
  int connections() const;

  /// Takes no new connections, closes idle ones, and lets replies say that theirs will close.
  void drain();
  /// Whether every connection ended within `limit`.
  bool wait_until_idle(std::chrono::milliseconds limit);
  /// Cuts every connection and joins the threads. What replies come from is destroyed, so generations are cancelled.
  void stop();
  /// Reads certificate and key again, for new connections. Errors as the constructor; the old ones stay in use then.
  void reload_tls();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace bittern::server
