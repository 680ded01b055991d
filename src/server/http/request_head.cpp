// Targets in origin form and in absolute form are read; what a client calls itself is kept only if it is harmless.
#include "server/http/request_head.h"

#include <fmt/core.h>

#include <random>

#include "base/strings.h"
#include "server/http/error_reply.h"
#include "server/http/router.h"

namespace bittern::server {
namespace {

std::string text_of(boost::beast::string_view text) { return std::string(text.data(), text.size()); }

std::string lower(std::string text) {
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  }
  return text;
}

bool is_harmless_id(std::string_view id) {
  if (id.empty() || id.size() > 128) return false;
  for (const char c : id) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (!plain && c != '-' && c != '_' && c != '.' && c != ':') return false;
  }
  return true;
}

/// "http://host/path?query" as "/path?query".
std::string origin_form(std::string target) {
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (!target.starts_with(scheme)) continue;
    const std::size_t slash = target.find('/', scheme.size());
    return slash == std::string::npos ? "/" : target.substr(slash);
  }
  return target;
}

HttpReply bad(const HttpRequest& request, std::string_view reason) {
  return error_reply(ErrorShape::openai, 400, reason, {}, "bad_request", request.id);
}

}  // namespace

std::string make_request_id() {
  thread_local std::mt19937_64 random{std::random_device{}()};
  return fmt::format("req-{:016x}", random());
}

std::optional<HttpReply> read_head(const boost::beast::http::request_header<>& head, HttpRequest& request) {
  request.method = text_of(head.method_string());
  for (const auto& field : head) {
    request.headers.emplace_back(lower(text_of(field.name_string())), text_of(field.value()));
  }
  const std::string_view wanted_id = request.header("x-request-id");
  request.id = is_harmless_id(wanted_id) ? std::string(wanted_id) : make_request_id();
  const std::string target =
      request.method == "OPTIONS" && head.target() == "*" ? "/" : origin_form(text_of(head.target()));
  const std::size_t mark = target.find('?');
  if (mark != std::string::npos) request.query = target.substr(mark + 1);
  if (!target.starts_with('/')) return bad(request, "the target of a request is a path: /v1/models");
  if (!percent_decode(std::string_view(target).substr(0, mark), request.path)) {
    return bad(request, "the path has a broken %-escape");
  }
  if (utf8_valid_prefix(request.path) != request.path.size()) return bad(request, "the path is not valid UTF-8");
  return std::nullopt;
}

}  // namespace bittern::server
