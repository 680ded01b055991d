// What a route sees of HTTP: a request that has arrived whole, and a reply that is complete, comes later, or comes bit
// by bit. It knows neither sockets nor threads, so that routes are tested without them; connection.cpp joins the two.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace bittern::server {

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

/// A request whose body has arrived.
struct HttpRequest {
  std::string method;   // "POST"
  std::string path;     // "/v1/models/mini", percent-decoded, without the query
  std::string query;    // "a=b&c=d", as it was sent
  HttpHeaders headers;  // names in lower case
  std::string body;
  std::string id;      // x-request-id of the client, or one that was made up; the reply carries it too
  std::string client;  // address, for logs

  /// The first header of that name (in lower case); empty when there is none.
  std::string_view header(std::string_view name) const {
    for (const auto& [key, value] : headers) {
      if (key == name) return value;
    }
    return {};
  }
};

/// To be called from any thread, any number of times, also after the connection is gone: then it does nothing.
using Wake = std::function<void()>;

/// The body of a reply that comes bit by bit, as of server-sent events. Used by one thread at a time. Destroying it
/// before its end means that the client is gone: what produces it must stop.
class BodySource {
 public:
  virtual ~BodySource() = default;
  /// Called once, before poll(). `wake` asks for another poll().
  virtual void start(Wake wake) = 0;
  /// Appends what is ready to `out` and never blocks. True: this was the last of it.
  virtual bool poll(std::string& out) = 0;
  /// Sent after a silence (--ping-interval), so that proxies keep the connection; empty: nothing may be sent.
  virtual std::string_view ping() const { return {}; }
};

class LaterReply;

struct HttpReply {
  int status = 200;
  std::string content_type = "application/json";
  HttpHeaders headers;  // beside content-type, content-length and those the server adds to every reply
  std::string body;
  // At most one of these, in place of `body`:
  std::unique_ptr<BodySource> source;  // status and headers go out at once, then what it yields
  std::unique_ptr<LaterReply> later;   // nothing goes out before it is ready
};

/// A reply whose status is not known yet. The rules are those of BodySource.
class LaterReply {
 public:
  virtual ~LaterReply() = default;
  virtual void start(Wake wake) = 0;
  /// The reply once it is known (without `later`), and never blocks. What it throws becomes an error reply, as what a
  /// handler throws does.
  virtual std::optional<HttpReply> poll() = 0;
};

/// Answers one request. Runs on a worker thread, may block for a short while (tokenizing) or throw: a bittern::Error
/// becomes an error reply in the API's own shape, by its code and field.
using Handler = std::function<HttpReply(const HttpRequest&)>;

/// Which body an error has; see error_reply().
enum class ErrorShape { openai, anthropic };

struct Route {
  std::string method;  // "GET"
  std::string path;    // "/v1/models/{name}"; what stands for {name} may hold slashes if it is the last part
  Handler handler;
  bool needs_key = true;  // false: served without an API key (health)
  ErrorShape errors = ErrorShape::openai;
};

}  // namespace bittern::server
