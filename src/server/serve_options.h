// Every setting of `bittern serve` beside those of the models. Defaults are safe: this machine alone, no browser of
// another origin, bounded everything.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace bittern::server {

struct ServeOptions {
  std::string host = "127.0.0.1";
  std::uint16_t port = 8000;  // 0: a free one, which is printed
  int io_threads = 2;
  int workers = 2;                        // threads that parse requests and tokenize
  std::string tls_certificate, tls_key;   // PEM files; both or neither
  std::vector<std::string> api_keys;      // empty: none is asked for
  std::vector<std::string> cors_origins;  // that may call from a browser; "*" any
  std::size_t max_body_bytes = 16u << 20;
  std::size_t max_header_bytes = 32u << 10;
  int max_connections = 8192;
  std::chrono::milliseconds header_timeout{10'000};  // for a whole header, and a keep-alive connection's next request
  std::chrono::milliseconds body_timeout{30'000};
  std::chrono::milliseconds write_timeout{30'000};  // for a client that does not read
  std::chrono::milliseconds ping_interval{15'000};  // of silent streams
  std::chrono::milliseconds drain_timeout{30'000};  // for requests that run when SIGTERM comes
  bool strict = false;                              // unknown fields of a request are refused
  bool vllm_metrics = false;                        // also vllm: names
  bool web_page = true;                             // the chat page at /
  std::string tool_parser = "auto";                 // of every model; auto: by its chat template
  std::string reasoning_parser = "auto";            // likewise
};

}  // namespace bittern::server
