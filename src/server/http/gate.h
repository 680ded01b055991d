// Gate: who may come in: API keys, compared in constant time, and which web origins a browser may call from (CORS).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/http/message.h"

namespace bittern::server {

class Gate {
 public:
  /// Without keys everybody may call; without origins no other web page may. "*" stands for every origin.
  Gate(std::vector<std::string> keys, std::vector<std::string> origins)
      : keys_(std::move(keys)), origins_(std::move(origins)) {}

  /// From "Authorization: Bearer KEY" or "x-api-key: KEY".
  bool has_key(const HttpRequest& request) const;
  bool asks_for_keys() const { return !keys_.empty(); }

  /// Whether a page of another origin, that is not among those allowed, lets a browser call. Simple requests come without
  /// a question (preflight), so their effects must be prevented here. Pages of this server's own address may call.
  bool refuses_origin(const HttpRequest& request) const;
  /// The answer to a browser's question whether it may call (OPTIONS with Origin); nothing for other requests.
  std::optional<HttpReply> preflight(const HttpRequest& request, const std::vector<std::string>& methods) const;
  /// Headers by which a browser lets the page of the request's origin read the reply.
  HttpHeaders cors_headers(const HttpRequest& request) const;

 private:
  bool allows(std::string_view origin) const;

  std::vector<std::string> keys_;
  std::vector<std::string> origins_;
};

/// Takes the same time wherever the texts differ; their lengths are not secret.
bool equal_in_constant_time(std::string_view a, std::string_view b);

}  // namespace bittern::server
