// Router: finds the Route of a request by method and path. A pattern's parts are compared one by one; "{name}" stands
// for any one part, and as the last part for the rest of the path. It does not take values out of paths.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "server/http/message.h"

namespace bittern::server {

struct RouteMatch {
  const Route* route = nullptr;
  std::vector<std::string> allowed;  // without a route: methods that the path does have, e.g. for 405
};

class Router {
 public:
  explicit Router(std::vector<Route> routes) : routes_(std::move(routes)) {}

  /// HEAD finds what GET would.
  RouteMatch match(std::string_view method, std::string_view path) const;
  /// The pattern spelled most like `path`, for messages; empty when none is near.
  std::string nearest(std::string_view path) const;

 private:
  std::vector<Route> routes_;
};

/// Whether `path` is one of those that `pattern` stands for.
bool path_matches(std::string_view pattern, std::string_view path);
/// "%41b" as "Ab"; "+" stays. False for a broken escape or one that spells NUL.
bool percent_decode(std::string_view text, std::string& decoded);

}  // namespace bittern::server
