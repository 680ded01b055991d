// GET / and /ui/...: the web page, from the program's own memory. It needs no key, since it is what asks for one; a
// browser keeps it and asks by ETag whether it is still the same. The policy lets it load and call this server alone.
#include <fmt/core.h>

#include <algorithm>

#include "base/sha256.h"
#include "server/routes/routes.h"
#include "server/routes/ui_files.h"
#include "server/serve_options.h"

namespace bittern::server {
namespace {

constexpr const char* kPolicy =
    "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

// If-None-Match: a list of tags, each perhaps weak, or "*".
bool names_tag(std::string_view header, std::string_view tag) {
  return header == "*" || header.find(tag) != std::string_view::npos;
}

HttpReply serve_file(const UiFile& file, const std::string& tag, const HttpRequest& request) {
  HttpReply reply;
  reply.content_type = file.content_type;
  reply.headers = {{"etag", tag},
                   {"cache-control", "no-cache"},
                   {"content-security-policy", kPolicy},
                   {"x-content-type-options", "nosniff"},
                   {"referrer-policy", "no-referrer"}};
  if (names_tag(request.header("if-none-match"), tag)) {
    reply.status = 304;
  } else {
    reply.body = file.bytes;
  }
  return reply;
}

}  // namespace

void add_ui_routes(Routes& routes, Service& service) {
  if (!service.options.web_page) return;
  for (const UiFile& file : ui_files()) {
    const std::string tag = fmt::format("\"{}\"", sha256(file.bytes).substr(0, 32));
    const std::string path = file.name == "index.html" ? "/" : fmt::format("/ui/{}", file.name);
    routes.push_back({.method = "GET",
                      .path = path,
                      .handler = [&file, tag](const HttpRequest& request) { return serve_file(file, tag, request); },
                      .needs_key = false});
  }
}

}  // namespace bittern::server
