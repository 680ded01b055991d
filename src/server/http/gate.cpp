// Every key is compared with every configured one, so that time tells nothing about which one was near.
#include "server/http/gate.h"

#include <algorithm>

namespace bittern::server {
namespace {

std::string_view offered_key(const HttpRequest& request) {
  const std::string_view authorization = request.header("authorization");
  constexpr std::string_view kBearer = "bearer ";
  if (authorization.size() > kBearer.size()) {
    const bool bearer = std::equal(kBearer.begin(), kBearer.end(), authorization.begin(),
                                   [](char wanted, char c) { return wanted == (c >= 'A' && c <= 'Z' ? c + 32 : c); });
    if (bearer) return authorization.substr(kBearer.size());
  }
  return request.header("x-api-key");
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

}  // namespace

bool equal_in_constant_time(std::string_view a, std::string_view b) {
  unsigned difference = a.size() == b.size() ? 0 : 1;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const unsigned char other = b.empty() ? 0 : static_cast<unsigned char>(b[i % b.size()]);
    difference |= static_cast<unsigned char>(a[i]) ^ other;
  }
  return difference == 0;
}

bool Gate::has_key(const HttpRequest& request) const {
  if (keys_.empty()) return true;
  const std::string_view offered = offered_key(request);
  bool found = false;
  for (const std::string& key : keys_) found |= equal_in_constant_time(offered, key);
  return found;
}

bool Gate::allows(std::string_view origin) const {
  return std::any_of(origins_.begin(), origins_.end(),
                     [&](const std::string& allowed) { return allowed == "*" || allowed == origin; });
}

bool Gate::refuses_origin(const HttpRequest& request) const {
  const std::string_view origin = request.header("origin");
  if (origin.empty() || allows(origin)) return false;
  const std::size_t scheme = origin.find("://");
  return scheme == std::string_view::npos || origin.substr(scheme + 3) != request.header("host");
}

std::optional<HttpReply> Gate::preflight(const HttpRequest& request, const std::vector<std::string>& methods) const {
  const std::string_view origin = request.header("origin");
  if (request.method != "OPTIONS" || origin.empty() || !allows(origin)) return std::nullopt;
  HttpReply reply;
  reply.status = 204;
  reply.headers = {{"access-control-allow-methods", joined(methods)}, {"access-control-max-age", "600"}};
  const std::string_view wanted = request.header("access-control-request-headers");
  if (!wanted.empty()) reply.headers.emplace_back("access-control-allow-headers", wanted);
  return reply;
}

HttpHeaders Gate::cors_headers(const HttpRequest& request) const {
  const std::string_view origin = request.header("origin");
  if (origin.empty() || !allows(origin)) return {};
  return {{"access-control-allow-origin", std::string(origin)},
          {"vary", "Origin"},
          {"access-control-expose-headers", "x-request-id"}};
}

}  // namespace bittern::server
