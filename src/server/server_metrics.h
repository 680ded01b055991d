// What the server counts and times for GET /metrics, under bittern: names and, if asked, vllm: names (docs/metrics.md).
// Gauges of the engines are read when somebody scrapes; nothing here takes part in a step.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace bittern::server {

class ModelPool;

/// Follows one sample of one request from its arrival to its end. Cheap: no lock is held while others are updated.
class RequestTimer {
 public:
  virtual ~RequestTimer() = default;  // an unfinished one counts as cancelled
  virtual void prompt(std::int64_t tokens, std::int64_t cached_tokens) = 0;
  /// A token became visible to the client.
  virtual void token() = 0;
  /// "stop", "length", "tool_calls", "cancelled", "error".
  virtual void finish(std::string_view reason) = 0;
};

class ServerMetrics {
 public:
  virtual ~ServerMetrics() = default;
  virtual std::unique_ptr<RequestTimer> start(std::string_view model) = 0;
  /// One HTTP exchange has ended. `route` is the pattern, not the path.
  virtual void http(std::string_view route, int status, double seconds) = 0;
  /// The client went away before the end of its reply.
  virtual void disconnected(std::string_view route) = 0;
  /// The operating system refused a connection (out of file descriptors), or a line of the log.
  virtual void accept_failed() {}
  virtual void log_failed() {}
  /// Prometheus' text format.
  virtual std::string render(const ModelPool& models) = 0;
};

/// `vllm_names`: every metric also under the name that vLLM gives it.
std::unique_ptr<ServerMetrics> make_server_metrics(bool vllm_names);

}  // namespace bittern::server
