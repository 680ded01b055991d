// Streams of events tell proxies to pass them on at once: nginx holds them back unless X-Accel-Buffering says no.
#include "server/http/response_head.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <boost/beast/http/status.hpp>

#include <ctime>

namespace bittern::server {
namespace {

namespace http = boost::beast::http;

void add(std::string& head, std::string_view name, std::string_view value) {
  fmt::format_to(std::back_inserter(head), "{}: {}\r\n", name, value);
}

bool has_body(int status) { return status >= 200 && status != 204 && status != 304; }

}  // namespace

std::string response_head(const HttpReply& reply, ReplyLength length, unsigned version, bool keep_alive,
                          const HttpHeaders& more) {
  const auto reason = http::obsolete_reason(http::int_to_status(static_cast<unsigned>(reply.status)));
  std::string head = fmt::format("HTTP/1.1 {} {}\r\n", reply.status, std::string_view(reason.data(), reason.size()));
  add(head, "server", "bittern");
  add(head, "date", fmt::format("{:%a, %d %b %Y %H:%M:%S GMT}", fmt::gmtime(std::time(nullptr))));
  if (has_body(reply.status)) {
    const bool events = reply.content_type == "text/event-stream";
    add(head, "content-type", events ? "text/event-stream; charset=utf-8" : reply.content_type);
    if (events) add(head, "cache-control", "no-cache");
    if (events) add(head, "x-accel-buffering", "no");
    if (length == ReplyLength::known) add(head, "content-length", std::to_string(reply.body.size()));
    if (length == ReplyLength::chunked) add(head, "transfer-encoding", "chunked");
  }
  if (!keep_alive) add(head, "connection", "close");
  if (keep_alive && version < 11) add(head, "connection", "keep-alive");
  for (const HttpHeaders* headers : {&reply.headers, &more}) {
    for (const auto& [name, value] : *headers) add(head, name, value);
  }
  return head += "\r\n";
}

std::string as_chunk(std::string_view part, bool last) {
  std::string bytes;
  if (!part.empty()) bytes = fmt::format("{:x}\r\n{}\r\n", part.size(), part);
  if (last) bytes += "0\r\n\r\n";
  return bytes;
}

}  // namespace bittern::server
