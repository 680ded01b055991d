// A walk over two paths, part by part; the table is short, so it is searched from the front.
#include "server/http/router.h"

#include <algorithm>

#include <span>

#include "base/strings.h"

namespace bittern::server {
namespace {

/// Cuts the first part off: "/a/b" gives "a" and leaves "/b".
std::string_view take_part(std::string_view& path) {
  path.remove_prefix(1);
  const std::string_view part = path.substr(0, path.find('/'));
  path.remove_prefix(part.size());
  return part;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

bool path_matches(std::string_view pattern, std::string_view path) {
  while (!pattern.empty() && !path.empty()) {
    const std::string_view wanted = take_part(pattern), part = take_part(path);
    const bool any = wanted.starts_with('{');
    if (any && pattern.empty()) return !part.empty();
    if (!any && wanted != part) return false;
    if (any && part.empty()) return false;
  }
  return pattern.empty() && path.empty();
}

RouteMatch Router::match(std::string_view method, std::string_view path) const {
  RouteMatch found;
  for (const Route& route : routes_) {
    if (!path_matches(route.path, path)) continue;
    if (route.method == method || (method == "HEAD" && route.method == "GET")) return {&route, {}};
    if (std::find(found.allowed.begin(), found.allowed.end(), route.method) == found.allowed.end()) {
      found.allowed.push_back(route.method);
    }
  }
  return found;
}

std::string Router::nearest(std::string_view path) const {
  std::vector<std::string> paths;
  for (const Route& route : routes_) paths.push_back(route.path);
  return bittern::nearest(path, std::span<const std::string>(paths));
}

bool percent_decode(std::string_view text, std::string& decoded) {
  decoded.clear();
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i];
      continue;
    }
    if (i + 2 >= text.size()) return false;
    const int high = hex_digit(text[i + 1]), low = hex_digit(text[i + 2]);
    if (high < 0 || low < 0 || high + low == 0) return false;
    decoded += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return true;
}

}  // namespace bittern::server
