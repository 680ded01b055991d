// In the order in which a stranger may learn things: nothing about routes without a key.
#include <utility>

#include "server/http/refusal.h"

#include <fmt/format.h>

#include "server/http/error_reply.h"

namespace bittern::server {
namespace {

HttpReply no_such_path(const HttpShared& shared, const HttpRequest& request) {
  const std::string near = shared.router.nearest(request.path);
  return error_reply(ErrorShape::openai, 404,
                     fmt::format("there is no {} here{}{}", request.path, near.empty() ? "" : "; did you mean ", near),
                     {}, "not_found", request.id);
}

HttpReply no_such_method(const HttpRequest& request, const RouteMatch& match) {
  const std::string methods = fmt::format("{}", fmt::join(match.allowed, ", "));
  HttpReply reply;
  if (request.method == "OPTIONS") {
    reply.status = 204;
  } else {
    reply = error_reply(ErrorShape::openai, 405,
                        fmt::format("{} does not take {}, but {}", request.path, request.method, methods), {},
                        "method_not_allowed", request.id);
  }
  reply.headers.emplace_back("allow", methods);
  return reply;
}

}  // namespace

std::optional<HttpReply> refuse(const HttpShared& shared, const HttpRequest& request, const RouteMatch& match) {
  if (auto reply = shared.gate.preflight(request, match.allowed)) return reply;
  const ErrorShape shape = match.route ? match.route->errors : ErrorShape::openai;
  if ((!match.route || match.route->needs_key) && !shared.gate.has_key(request)) {
    return error_reply(shape, 401, "this server asks for an API key: send 'Authorization: Bearer KEY'", {},
                       "invalid_api_key", request.id);
  }
  if (shared.gate.refuses_origin(request)) {
    return error_reply(
        shape, 403,
        fmt::format("pages of {} may not call this server; --cors-origin allows an origin", request.header("origin")),
        {}, "origin_not_allowed", request.id);
  }
  if (!match.route) return match.allowed.empty() ? no_such_path(shared, request) : no_such_method(request, match);
  const std::string_view coding = request.header("content-encoding");
  if (!coding.empty() && coding != "identity") {
    return error_reply(shape, 415, fmt::format("content-encoding '{}' is not read; send the body as it is", coding), {},
                       {}, request.id);
  }
  if (shared.draining && match.route->needs_key) {
    return error_reply(shape, 503, "this server is shutting down", {}, "draining", request.id);
  }
  return std::nullopt;
}

HttpReply too_large(const ServeOptions& options, std::string_view request_id) {
  return error_reply(ErrorShape::openai, 413, fmt::format("the body is longer than {} bytes", options.max_body_bytes),
                     {}, "request_too_large", request_id);
}

}  // namespace bittern::server
